"""Make signatures: by a private key in a file, or by a key in AWS KMS that never leaves it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from runcomfy.content_credentials.settings import SigningSettings, is_pem, private_key_in, whole_pem
from runcomfy.errors import ConfigurationError, StorageError
from runcomfy.extras import needed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

__all__ = ["Key", "open_key"]

_WHAT = "Signing files"
_CURVES = {
    "secp256r1": ("ES256", "SHA256", 32),
    "secp384r1": ("ES384", "SHA384", 48),
    "secp521r1": ("ES512", "SHA512", 66),
}
_KMS_ALGORITHMS = {
    "ES256": "ECDSA_SHA_256", "ES384": "ECDSA_SHA_384", "ES512": "ECDSA_SHA_512", "PS256": "RSASSA_PSS_SHA_256",
}  # fmt: skip
_HASHES = {"ES256": "sha256", "ES384": "sha384", "ES512": "sha512", "PS256": "sha256"}
_MOST_KMS_BYTES = 4096
"""What KMS hashes by itself (https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html)."""
_WIDTHS = {"ES256": 32, "ES384": 48, "ES512": 66}


class Key(NamedTuple):
    """A key with its certificates, ready to sign."""

    algorithm: str
    """As COSE calls it: ES256, ES384, ES512, PS256 or EdDSA."""
    certificates: str
    """PEM, the signer's first."""
    sign: Callable[[bytes], bytes]
    """Returns the signature over some bytes, as COSE wants it. Raises `StorageError` where KMS does not answer."""


def open_key(settings: SigningSettings) -> Key:
    """Read certificates and key, and make sure that they belong together.

    Raises:
        ConfigurationError: a file cannot be read, is not what it should be, or has expired; or the extra is missing.
        StorageError: KMS refused, or could not be reached.
    """
    with needed("c2pa", _WHAT):
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
    where = settings.certificate_name
    pem = _read(settings.certificate, "The certificate", where)
    try:
        chain = x509.load_pem_x509_certificates(pem)
        first = chain[0]
    except (ValueError, IndexError):
        raise ConfigurationError(f"{where} holds no certificate in PEM form (BEGIN CERTIFICATE).") from None
    if not first.not_valid_before_utc <= datetime.now(UTC) <= first.not_valid_after_utc:
        raise ConfigurationError(
            f"The certificate in {where} is valid from {first.not_valid_before_utc:%Y-%m-%d} to "
            f"{first.not_valid_after_utc:%Y-%m-%d}, and not now."
        )
    algorithm = _algorithm(first.public_key(), where)
    ours: Any
    if settings.kms_key:
        client = _kms()
        with _KmsErrors(settings.kms_key):
            ours = serialization.load_der_public_key(client.get_public_key(KeyId=settings.kms_key)["PublicKey"])
        sign = _signs_in_kms(client, settings.kms_key, algorithm)
    else:
        private = _private_key(settings)
        ours, sign = private.public_key(), _signs_here(private, algorithm)
    if _der(ours) != _der(first.public_key()):
        raise ConfigurationError(f"The key {settings.key_name} is not that of the first certificate in {where}.")
    # Not the file as it is: the library puts every block of it into what it signs, a private key too.
    certificates = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain)
    return Key(algorithm, certificates.decode("ascii"), sign)


def _read(given: str, what: str, name: str) -> bytes:
    if is_pem(given):
        return whole_pem(given).encode("ascii", "replace")
    try:
        return Path(given).expanduser().read_bytes()
    except (OSError, RuntimeError, ValueError) as error:  # no home folder; a zero byte
        reason = getattr(error, "strerror", None) or type(error).__name__
        if name != given:  # it is not shown: it may be a key
            reason = "it is neither the path of a file nor the content of one with its lines BEGIN and END"
        raise ConfigurationError(f"{what} {name} cannot be read: {reason}. Nothing was paid for.") from None


def _der(key: PublicKeyTypes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _algorithm(key: Any, where: str) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name][0]
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "EdDSA"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return "PS256"
    raise ConfigurationError(
        f"The key of the certificate in {where} cannot sign: use P-256, P-384, P-521, Ed25519 or RSA."
    )


def _private_key(settings: SigningSettings) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        pem = _read(settings.key, "The key", settings.key_name)
        return load_pem_private_key(private_key_in(pem.decode("ascii", "replace")).encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # not the library's text: it may quote the file
        raise ConfigurationError(
            f"The key {settings.key_name} holds no private key in PEM form that can be used without a password. "
            "Nothing was paid for."
        ) from None


def _signs_here(private: Any, algorithm: str) -> Callable[[bytes], bytes]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding

    def sign(data: bytes) -> bytes:
        if algorithm == "EdDSA":
            return bytes(private.sign(data))
        if algorithm == "PS256":
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
            return bytes(private.sign(data, pss, hashes.SHA256()))
        hashed = {"ES256": hashes.SHA256(), "ES384": hashes.SHA384(), "ES512": hashes.SHA512()}[algorithm]
        chosen: ec.EllipticCurveSignatureAlgorithm = ec.ECDSA(hashed)
        return _raw(private.sign(data, chosen), algorithm)

    return sign


def _signs_in_kms(client: Any, key: str, algorithm: str) -> Callable[[bytes], bytes]:
    if algorithm not in _KMS_ALGORITHMS:
        raise ConfigurationError(
            f"A key of the kind {algorithm} in KMS is not used here: use ECC_NIST_P256 or RSA_2048."
        )

    def sign(data: bytes) -> bytes:
        whole = len(data) <= _MOST_KMS_BYTES
        message = data if whole else hashlib.new(_HASHES[algorithm], data).digest()
        with _KmsErrors(key):
            answer = client.sign(
                KeyId=key, Message=message, MessageType="RAW" if whole else "DIGEST",
                SigningAlgorithm=_KMS_ALGORITHMS[algorithm],
            )  # fmt: skip
        return _raw(answer["Signature"], algorithm) if algorithm in _WIDTHS else bytes(answer["Signature"])

    return sign


def _raw(der: bytes, algorithm: str) -> bytes:
    """Return an ECDSA signature as COSE has it: both numbers at their full width (RFC 9053, section 2.1)."""
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    width = _WIDTHS[algorithm]
    return b"".join(number.to_bytes(width, "big") for number in decode_dss_signature(der))


def _kms() -> Any:
    return boto3.Session().client(
        "kms", config=Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
    )


class _KmsErrors:
    """Turn what boto3 raises into a `StorageError` that names the key, and nothing that is secret."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, ClientError):
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            raise StorageError(f"AWS KMS refused the key {self._key}: {code}.", error_code=code) from None
        if isinstance(error, BotoCoreError):
            raise StorageError(
                f"AWS KMS could not be asked for the key {self._key}: {type(error).__name__}. Check region, "
                "credentials and network.", error_code=type(error).__name__,
            ) from None  # fmt: skip
