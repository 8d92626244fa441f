"""Signing of finished files after C2PA. A signature covers the whole file, so a stream cannot be signed.

Nothing here uses the network: no time stamp is asked for.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO, Any

from PIL import Image

from emo_rt.errors import ConfigError, OutputError
from emo_rt.media.marking.provenance import FORMATS, MADE_BY_A_MODEL, c2pa_library

LARGEST_PEM = 1 << 20
"""Bytes of a certificate chain or a key."""
CURVES = {"secp256r1": b"es256", "secp384r1": b"es384", "secp521r1": b"es512"}
"""Curve, by its name in cryptography → C2PA's name of the signature. Other curves of the same sizes are not C2PA's."""
KEYS = "one of EC P-256, P-384, P-521, Ed25519, RSA"


class FileSigner:
    """Signs finished files with one certificate."""

    def __init__(self, cert: str | os.PathLike[str], key: str | os.PathLike[str], generator: str) -> None:
        """``cert``: chain, ``key``: PKCS 8, both PEM. ``generator``: name and version, ``emo_rt 1.2.3``.

        Signs a picture of some pixels first (a tenth of a second), so that whoever has a certificate that C2PA does
        not accept is told before a video is computed. Raises :class:`MissingDependencyError`, and :class:`ConfigError`
        for files that are no such pair, or a certificate that cannot sign now: expired, or not made for it.
        """
        self._c2pa = c2pa_library()
        self._chain, self._private = _read(Path(cert), "c2pa_cert"), _read(Path(key), "c2pa_key")
        self._algorithm = _algorithm(self._private, Path(key))
        _check_pair(self._chain, self._private, Path(cert), Path(key))
        name, _, version = generator.partition(" ")
        self._generator = {"name": name, **({"version": version} if version else {})}
        self._try(Path(cert))

    def sign(self, source: Path, target: Path, container: str = "mp4") -> None:
        """Write ``source``, signed, to ``target``. ``container``: ``mp4`` or ``mov``. Raises :class:`OutputError`."""
        try:
            with source.open("rb") as given, target.open("w+b") as signed:
                self._sign(FORMATS[container], given, signed)
        except (self._c2pa.C2paError, OSError) as exc:
            raise OutputError(
                f"the video cannot be signed ({exc}); has the certificate expired, or is the disk full?"
            ) from exc

    def _sign(self, media_type: str, source: IO[bytes], target: IO[bytes]) -> None:
        action = {"action": "c2pa.created", "digitalSourceType": MADE_BY_A_MODEL}
        manifest = {
            "claim_generator_info": [self._generator],
            "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}],
        }
        info = self._c2pa.C2paSignerInfo(
            alg=self._algorithm, sign_cert=self._chain, private_key=self._private, ta_url=None
        )
        with self._c2pa.Signer.from_info(info) as signer, self._c2pa.Builder(manifest) as builder:
            builder.sign(signer, media_type, source, target)

    def _try(self, cert: Path) -> None:
        with io.BytesIO() as picture, io.BytesIO() as signed:
            Image.new("L", (8, 8)).save(picture, "PNG")
            picture.seek(0)
            try:
                self._sign("image/png", picture, signed)
            except self._c2pa.C2paError as exc:
                reason = " ".join(str(exc).split())
                raise ConfigError(
                    f"c2pa_cert is {cert}, which cannot sign ({reason}); expected a certificate for C2PA, valid today"
                ) from exc


def _read(path: Path, name: str) -> bytes:
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_PEM:
            raise ConfigError(f"{name} is {path}; expected a PEM file of at most {LARGEST_PEM:,} bytes")
        return path.read_bytes()
    except (OSError, ValueError) as exc:  # ValueError: a name with a zero byte
        raise ConfigError(f"{name} is {path}, which cannot be read ({exc}); expected a PEM file") from exc


def _private_key(private: bytes, path: Path) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(private, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise ConfigError(f"c2pa_key is {path}; expected a private key as PEM, PKCS 8, not encrypted") from exc


def _algorithm(private: bytes, path: Path) -> bytes:
    """C2PA's name of the signature that goes with a key."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    key = _private_key(private, path)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if key.curve.name not in CURVES:
            raise ConfigError(f"c2pa_key is {path}, of the curve {key.curve.name}; expected {KEYS}")
        return CURVES[key.curve.name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return b"ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return b"ps256"
    raise ConfigError(f"c2pa_key is {path}, a {type(key).__name__}; expected {KEYS}")


def _check_pair(chain: bytes, private: bytes, cert: Path, key: Path) -> None:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        public = x509.load_pem_x509_certificates(chain)[0].public_key()
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ConfigError(f"c2pa_cert is {cert}; expected certificates as PEM, the signer's first") from exc
    if public != _private_key(private, key).public_key():
        raise ConfigError(f"c2pa_key is {key}; expected the key of the first certificate in {cert}")
