"""Who signs, with which key, and whether a file that cannot be signed is archived all the same."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from runcomfy.errors import ConfigurationError

__all__ = ["SigningSettings", "is_pem", "private_key_in", "settings_from_environment", "whole_pem"]

_CERTIFICATE, _KEY, _KMS = "RUNCOMFY_SIGN_CERTIFICATE", "RUNCOMFY_SIGN_KEY", "RUNCOMFY_SIGN_KMS_KEY"
_TSA, _REQUIRED = "RUNCOMFY_SIGN_TSA_URL", "RUNCOMFY_SIGN_REQUIRED"
_LONGEST_PATH = 1000
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]{3,60})-----(.*?)-----END \1-----", re.DOTALL)
_PRIVATE = "PRIVATE KEY-----"
_MAY_BE_KEY = re.compile(r"""[A-Za-z0-9+/=_\s-]{60,}|.*[{}"'].*""", re.DOTALL)
"""A key in another form than PEM, in base64, hexadecimal digits or JSON: hardly a path, which would have a dot."""
_YES, _NO = ("1", "true", "yes"), ("", "0", "false", "no")


@dataclass(frozen=True)
class SigningSettings:
    """Who signs archived files.

    Args:
        certificate: A PEM file, or the content of one: the signer's certificate first, then those up to the root.
        key: A PEM file with the private key, or the content of one, without a password. Either this or `kms_key`.
        kms_key: An asymmetric key in AWS KMS: its id, ARN or alias; boto3's own credentials are used.
        tsa_url: A time-stamp authority (RFC 3161), so that signatures outlive the certificate.
        required: Whether a file that cannot be signed is not archived, rather than archived with a warning.

    Raises:
        ConfigurationError: they contradict each other, or one is missing.
    """

    certificate: str
    key: str = field(default="", repr=False)
    kms_key: str = ""
    tsa_url: str = field(default="", repr=False)
    required: bool = False

    def __post_init__(self) -> None:
        if bool(self.key) is bool(self.kms_key):
            given = "both are given" if self.key else "neither is given"
            raise ConfigurationError(
                f"Files are to be signed with {_CERTIFICATE}, by one key, {_KEY} (a PEM file) or "
                f"{_KMS} (AWS KMS), or by those of the block MediaStore (sign_certificate, sign_key, sign_kms_key); "
                f"{given}."
            )
        if not self.certificate:
            raise ConfigurationError(
                f"Files are to be signed, and no certificate is named: set {_CERTIFICATE} to a PEM file, or "
                "sign_certificate of the block MediaStore."
            )
        if is_pem(self.certificate) and _PRIVATE in self.certificate:
            raise ConfigurationError(
                f"What is given as the certificate has a private key in it, which is not kept secret there. Give the "
                f"certificates alone, and the key as {_KEY} or as sign_key of the block MediaStore."
            )
        if self.tsa_url and not _is_address(self.tsa_url):
            raise ConfigurationError(f"{_TSA} is no http:// or https:// address of a time-stamp authority.")

    @property
    def certificate_name(self) -> str:
        """How the certificate is called in sentences: its path, if it is a file."""
        return "the certificate that was given" if is_pem(self.certificate) else self.certificate

    @property
    def key_name(self) -> str:
        """How the key is called in sentences: never by its content."""
        if self.kms_key:
            return self.kms_key
        is_path = len(self.key) <= _LONGEST_PATH and self.key.isprintable() and not is_pem(self.key)
        return self.key if is_path and not _MAY_BE_KEY.fullmatch(self.key) else "that was given"


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # such as half an IPv6 address
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(map(str.isspace, url))


def is_pem(text: str) -> bool:
    """Whether a text is the content of a PEM file, and not a path to one."""
    return "-----BEGIN" in text


def whole_pem(text: str) -> str:
    """Return PEM in lines again, as files have it: forms and environments keep it in one, or write ends as `\\n`."""
    parts = _PEM.findall(text.replace("\\r", "").replace("\\n", "\n"))
    return "".join(f"-----BEGIN {name}-----\n{_lines(body)}-----END {name}-----\n" for name, body in parts) or text


def private_key_in(text: str) -> str:
    """Return the private key alone of a PEM file that may hold its certificates or parameters as well."""
    return next((found[0] for found in _PEM.finditer(text) if found[1].endswith("PRIVATE KEY")), text)


def _lines(body: str) -> str:
    packed = "".join(body.split())
    return "".join(f"{packed[at : at + 64]}\n" for at in range(0, len(packed), 64))


def settings_from_environment(environment: Mapping[str, str] = os.environ) -> SigningSettings | None:
    """Return who signs, as the environment says; `None` if nothing is to be signed.

    Raises:
        ConfigurationError: the variables contradict each other, or one is missing.
    """
    given = {name: environment.get(name, "").strip() for name in (_CERTIFICATE, _KEY, _KMS, _TSA, _REQUIRED)}
    required = given[_REQUIRED].lower()
    if required not in (*_YES, *_NO):
        raise ConfigurationError(f"{_REQUIRED} is {given[_REQUIRED]!r}: say yes or no.")
    if not any((given[_CERTIFICATE], given[_KEY], given[_KMS], given[_TSA])):
        if required in _YES:
            raise ConfigurationError(f"{_REQUIRED} says yes, and nothing says who signs: set {_CERTIFICATE} and a key.")
        return None
    return SigningSettings(given[_CERTIFICATE], given[_KEY], given[_KMS], given[_TSA], required in _YES)
