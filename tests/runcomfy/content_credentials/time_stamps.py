"""A time-stamp authority (RFC 3161) on this machine: `openssl ts` behind HTTP, with a certificate of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.answering import Reply, answering

__all__ = ["running_authority"]

_SETTINGS = """[tsa]
default_tsa = ours
[ours]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
certs = {folder}/root.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
"""


def _prepare(folder: Path) -> None:
    now = datetime.now(UTC)
    root_key, key = (rsa.generate_private_key(65537, 2048) for _ in "12")
    root_name, name = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in ("Root", "Time"))
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())

    def begun(subject: x509.Name, public: Any, serial: int) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(root_name).public_key(public).serial_number(serial)
            .not_valid_before(now - timedelta(days=9)).not_valid_after(now + timedelta(days=9))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.BasicConstraints(serial == 1, None), critical=True)
        )  # fmt: skip

    def usage(*, signs_certificates: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=not signs_certificates, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip

    root = begun(root_name, root_key.public_key(), 1).add_extension(usage(signs_certificates=True), critical=True)
    leaf = begun(name, key.public_key(), 2).add_extension(usage(signs_certificates=False), critical=True)
    leaf = leaf.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
    leaf = leaf.add_extension(authority, critical=False)
    for path, builder in (("root.pem", root), ("tsa.pem", leaf)):
        (folder / path).write_bytes(builder.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (folder / "tsa.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "settings").write_text(_SETTINGS.format(folder=folder))
    (folder / "serial").write_text("01")


@contextmanager
def running_authority(folder: Path) -> Iterator[str]:
    """Serve time stamps; the address."""
    _prepare(folder)

    def stamp(_: object, query: bytes) -> Reply:
        (folder / "query").write_bytes(query)
        stamped = subprocess.run(
            ["openssl", "ts", "-reply", "-config", "settings", "-section", "ours", "-queryfile", "query"],
            cwd=folder, capture_output=True, check=False,
        )  # fmt: skip
        return Reply(stamped.stdout, content_type="application/timestamp-reply")

    with answering(stamp) as address:
        yield f"{address}/"
