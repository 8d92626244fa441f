"""Signed metadata after C2PA: who made a file, by what, and that nothing was changed since. Extra ``provenance``.

A signature covers the whole file, so only a finished one can be signed. Nothing here uses the network: no time stamp is
asked for, and a manifest that lies elsewhere is not fetched.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from emo_rt.errors import ConfigError, MissingDependencyError, OutputError

MADE_BY_A_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's word for what a trained model has made."""
FORMATS = {"mp4": "video/mp4", "mov": "video/quicktime"}
"""Muxer → media type."""
OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
"""Of the library's settings."""
LARGEST_PEM = 1 << 20
"""Bytes of a certificate chain or a key."""


@dataclass(frozen=True)
class ProvenanceReading:
    """What a file's manifest says."""

    state: str
    """``absent``; ``valid`` (nothing was changed; who signed is not known to be trusted), ``trusted``, ``invalid``
    (changed, cut off, or wrongly signed), or ``unchecked`` (the extra ``provenance`` is not installed)."""
    issuer: str | None = None
    """Who has signed, by the certificate."""
    generator: str | None = None
    """What has made the file, with its version."""
    says_generated: bool = False
    """Whether it says that a model has made the file."""
    problems: tuple[str, ...] = ()
    """Codes of C2PA of what is wrong."""


class FileSigner:
    """Signs finished files with one certificate."""

    def __init__(self, cert: str | os.PathLike[str], key: str | os.PathLike[str], generator: str) -> None:
        """``cert``: chain, ``key``: PKCS 8, both PEM. ``generator``: name and version, ``emo_rt 1.2.3``.

        Raises :class:`MissingDependencyError`, and :class:`ConfigError` for files that are no such pair.
        """
        self._c2pa = _library()
        self._chain, self._private = _read(Path(cert), "c2pa_cert"), _read(Path(key), "c2pa_key")
        self._algorithm = _algorithm(self._private, Path(key))
        _check_pair(self._chain, self._private, Path(cert), Path(key))
        name, _, version = generator.partition(" ")
        self._generator = {"name": name, **({"version": version} if version else {})}

    def sign(self, source: Path, target: Path, container: str = "mp4") -> None:
        """Write ``source``, signed, to ``target``. ``container``: ``mp4`` or ``mov``. Raises :class:`OutputError`."""
        action = {"action": "c2pa.created", "digitalSourceType": MADE_BY_A_MODEL}
        manifest = {
            "claim_generator_info": [self._generator],
            "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}],
        }
        info = self._c2pa.C2paSignerInfo(
            alg=self._algorithm, sign_cert=self._chain, private_key=self._private, ta_url=None
        )
        try:
            with (
                self._c2pa.Signer.from_info(info) as signer,
                self._c2pa.Builder(manifest) as builder,
                source.open("rb") as given,
                target.open("w+b") as signed,
            ):
                builder.sign(signer, FORMATS[container], given, signed)
        except (self._c2pa.C2paError, OSError) as exc:
            raise OutputError(f"the video cannot be signed ({exc}); is the certificate one for C2PA?") from exc


def read_provenance(file: IO[bytes] | io.RawIOBase) -> ProvenanceReading:
    """Look for a manifest in an open file. Never raises for what is in it."""
    try:
        c2pa: Any = _library()
    except MissingDependencyError:
        return ProvenanceReading("unchecked")
    try:
        with (
            c2pa.Context.from_dict(OFFLINE) as context,
            c2pa.Reader(FORMATS["mp4"], file, context=context) as reader,
        ):
            return _reading(str(reader.get_validation_state()), json.loads(reader.json()))
    except c2pa.C2paError as exc:
        if "ManifestNotFound" in str(exc):
            return ProvenanceReading("absent")
        return ProvenanceReading("invalid", problems=(" ".join(str(exc).split())[:200],))


def _reading(state: str, report: dict[str, Any]) -> ProvenanceReading:
    manifest = report.get("manifests", {}).get(report.get("active_manifest"), {})
    generator: dict[str, Any] = next(iter(manifest.get("claim_generator_info", [])), {})
    named = " ".join(str(generator[part]) for part in ("name", "version") if part in generator)
    actions = [
        action
        for assertion in manifest.get("assertions", [])
        if str(assertion.get("label", "")).startswith("c2pa.actions")
        for action in assertion.get("data", {}).get("actions", [])
    ]
    return ProvenanceReading(
        state=state.lower(),
        issuer=manifest.get("signature_info", {}).get("issuer"),
        generator=named or None,
        says_generated=any(action.get("digitalSourceType") == MADE_BY_A_MODEL for action in actions),
        problems=tuple(str(problem.get("code")) for problem in report.get("validation_status", [])),
    )


def _library() -> ModuleType:
    try:
        import c2pa
    except ImportError as exc:
        raise MissingDependencyError("C2PA needs c2pa-python; pip install 'emo_rt[provenance]'") from exc
    return c2pa  # type: ignore[no-any-return,unused-ignore]


def _read(path: Path, name: str) -> bytes:
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_PEM:
            raise ConfigError(f"{name} is {path}; expected a PEM file of at most {LARGEST_PEM:,} bytes")
        return path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{name} is {path}, which cannot be read ({exc}); expected a PEM file") from exc


def _algorithm(private: bytes, path: Path) -> bytes:
    """C2PA's name of the signature that goes with a key."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(private, password=None)
    except (ValueError, TypeError) as exc:
        raise ConfigError(f"c2pa_key is {path}; expected a private key as PEM, PKCS 8, not encrypted") from exc
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size in (256, 384, 521):
        return {256: b"es256", 384: b"es384", 521: b"es512"}[key.curve.key_size]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return b"ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return b"ps256"
    raise ConfigError(f"c2pa_key is {path}, a {type(key).__name__}; expected one of EC P-256 … P-521, Ed25519, RSA")


def _check_pair(chain: bytes, private: bytes, cert: Path, key: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        first = x509.load_pem_x509_certificates(chain)[0]
    except ValueError as exc:
        raise ConfigError(f"c2pa_cert is {cert}; expected certificates as PEM, the signer's first") from exc
    if first.public_key() != load_pem_private_key(private, password=None).public_key():
        raise ConfigError(f"c2pa_key is {key}; expected the key of the first certificate in {cert}")
