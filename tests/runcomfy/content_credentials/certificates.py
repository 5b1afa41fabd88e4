"""A throw-away certificate that may sign Content Credentials, and its root."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["SIGNER", "Chain", "make_chain"]

SIGNER = "Testing Pictures"


@dataclass(frozen=True)
class Chain:
    """The files of a signer."""

    certificate: Path
    key: Path


def make_chain(folder: Path, public_key: Any = None, *, days: int = 30) -> Chain:
    """Write certificates and key; of a public key that is given (as KMS has one), there is no private one."""
    now = datetime.now(UTC)
    root_key, own_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    public = public_key or own_key.public_key()
    root_name, name = _name("Testing Root"), _name(SIGNER)

    def begun(subject: x509.Name, key: Any, serial: int) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(root_name).public_key(key).serial_number(serial)
            .not_valid_before(now - timedelta(days=40)).not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )  # fmt: skip

    root = begun(root_name, root_key.public_key(), 1).add_extension(x509.BasicConstraints(True, None), critical=True)
    root = root.add_extension(_usage(signs_certificates=True), critical=True)
    leaf = begun(name, public, 2).add_extension(x509.BasicConstraints(False, None), critical=True)
    leaf = leaf.add_extension(_usage(signs_certificates=False), critical=True)
    leaf = leaf.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    leaf = leaf.add_extension(issuer, critical=False)
    certificates = [each.sign(root_key, hashes.SHA256()) for each in (leaf, root)]
    chain = Chain(folder / "chain.pem", folder / "key.pem")
    chain.certificate.write_bytes(b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates))
    chain.key.write_bytes(
        own_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return chain


def _name(organisation: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
                      x509.NameAttribute(NameOID.COMMON_NAME, organisation)])  # fmt: skip


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
