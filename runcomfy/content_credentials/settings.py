"""Who signs, with which key, and whether a file that cannot be signed is archived all the same."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from runcomfy.errors import ConfigurationError

__all__ = ["SigningSettings", "settings_from_environment"]

_CERTIFICATE, _KEY, _KMS = "RUNCOMFY_SIGN_CERTIFICATE", "RUNCOMFY_SIGN_KEY", "RUNCOMFY_SIGN_KMS_KEY"
_TSA, _REQUIRED = "RUNCOMFY_SIGN_TSA_URL", "RUNCOMFY_SIGN_REQUIRED"
_YES, _NO = ("1", "true", "yes"), ("", "0", "false", "no")


@dataclass(frozen=True)
class SigningSettings:
    """Who signs archived files.

    Args:
        certificate: A PEM file: the signer's certificate first, then those up to the root.
        key: A PEM file with the private key, without a password. Either this or `kms_key`.
        kms_key: An asymmetric key in AWS KMS: its id, ARN or alias; boto3's own credentials are used.
        tsa_url: A time-stamp authority (RFC 3161), so that signatures outlive the certificate.
        required: Whether a file that cannot be signed is not archived, rather than archived with a warning.

    Raises:
        ConfigurationError: they contradict each other, or one is missing.
    """

    certificate: str
    key: str = ""
    kms_key: str = ""
    tsa_url: str = ""
    required: bool = False

    def __post_init__(self) -> None:
        if bool(self.key) is bool(self.kms_key):
            given = "both are given" if self.key else "neither is given"
            raise ConfigurationError(
                f"Files are to be signed with {_CERTIFICATE}, by one key, {_KEY} (a PEM file) or "
                f"{_KMS} (AWS KMS); {given}."
            )
        if not self.certificate:
            raise ConfigurationError(
                f"Files are to be signed, and no certificate is named: set {_CERTIFICATE} to a PEM file."
            )
        if self.tsa_url and urlsplit(self.tsa_url).scheme not in ("http", "https"):
            raise ConfigurationError(f"{_TSA} is no http:// or https:// address of a time-stamp authority.")


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
