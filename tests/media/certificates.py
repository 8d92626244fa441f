"""A certificate chain of our own, as C2PA wants it: a root that nobody trusts, and a signer below it."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Pair: TypeAlias = tuple[Path, Path]
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CENTURY = 36_500


def make_chain(folder: Path, key: Any = None, *, start: datetime.datetime = START, days: int = CENTURY) -> Pair:
    """``chain.pem`` and ``key.pem`` in ``folder``. ``key``: the signer's, default P-256; its certificate's days."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), key or ec.generate_private_key(ec.SECP256R1())
    root_name, name = _name("emo_rt test root"), _name("emo_rt test signer")
    root = _builder(root_name, root_name, root_key.public_key(), is_authority=True, issuer_key=root_key)
    leaf = _builder(name, root_name, key.public_key(), is_authority=False, issuer_key=root_key, start=start, days=days)
    signed = [one.sign(root_key, hashes.SHA256()) for one in (leaf, root)]
    chain, private = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in signed))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return chain, private


def _name(common: str) -> x509.Name:
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "emo_rt tests")
    return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: Any,
    *,
    is_authority: bool,
    issuer_key: ec.EllipticCurvePrivateKey,
    start: datetime.datetime = START,
    days: int = CENTURY,
) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=not is_authority, key_cert_sign=is_authority, crl_sign=is_authority,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    if is_authority:
        return made
    return made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
