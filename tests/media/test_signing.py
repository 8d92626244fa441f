"""Which certificates sign, and that the others are refused before a video is computed."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("c2pa", reason="needs the extra provenance")

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

import emo_rt
from emo_rt.errors import ConfigError
from emo_rt.media.marking.signing import FileSigner
from tests.media.certificates import START, make_chain

KEYS: dict[str, Callable[[], Any]] = {
    "es256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "es512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ps256": lambda: rsa.generate_private_key(65_537, 2048),
}
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "secp256k1": (lambda: ec.generate_private_key(ec.SECP256K1()), "of the curve secp256k1; expected one of EC P-256"),
    "brainpool": (lambda: ec.generate_private_key(ec.BrainpoolP256R1()), "of the curve brainpoolP256r1"),
    "ed448": (ed448.Ed448PrivateKey.generate, "a .*Ed448.*; expected one of EC P-256"),
    "short RSA": (lambda: rsa.generate_private_key(65_537, 1024), "cannot sign .*valid today"),
}


@pytest.mark.parametrize("name", KEYS)
def test_each_algorithm_signs(name: str, tmp_path: Path) -> None:
    cert, key = make_chain(tmp_path, KEYS[name]())
    options = emo_rt.VideoOptions(c2pa_cert=cert, c2pa_key=key)
    with emo_rt.VideoWriter(tmp_path / "a.mp4", width=64, height=64, fps=25, options=options) as writer:
        assert writer._signer is not None
        assert writer._signer._algorithm == name.encode()
        writer.write(np.zeros((2, 64, 64, 3), np.uint8))
    assert emo_rt.verify(tmp_path / "a.mp4").c2pa.state == "valid"


@pytest.mark.parametrize("name", REFUSED)
def test_keys_that_c2pa_does_not_take_are_refused_at_once(name: str, tmp_path: Path) -> None:
    make, words = REFUSED[name]
    cert, key = make_chain(tmp_path, make())
    with pytest.raises(ConfigError, match=words):
        FileSigner(cert, key, "emo_rt")


@pytest.mark.parametrize("years", [-9, 60], ids=["expired", "not yet valid"])
def test_certificates_of_another_time_are_refused_at_once(years: int, tmp_path: Path) -> None:
    cert, key = make_chain(tmp_path, start=START + datetime.timedelta(days=365 * years), days=30)
    with pytest.raises(ConfigError, match=r"not valid at time of signing.*expected a certificate for C2PA"):
        FileSigner(cert, key, "emo_rt")
