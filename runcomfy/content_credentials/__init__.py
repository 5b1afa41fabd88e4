"""Content Credentials: a signature in the file that says how it was made, and that nothing was changed since (C2PA).

`settings` says who signs, and `signer` makes the signatures, by a key in a file or in AWS KMS. `statement` is what is
signed, `signing` signs a file, and `reading` checks one. The extra `c2pa` is needed only where something is signed or
checked; nothing of it is loaded before. The standard: https://spec.c2pa.org/.
"""

from __future__ import annotations

from runcomfy.content_credentials.reading import Credentials, read_credentials
from runcomfy.content_credentials.settings import SigningSettings, is_pem, settings_from_environment
from runcomfy.content_credentials.signing import Signing, Unsigned
from runcomfy.content_credentials.statement import Statement, statement_sha256

__all__ = [
    "Credentials",
    "Signing",
    "SigningSettings",
    "Statement",
    "Unsigned",
    "is_pem",
    "read_credentials",
    "settings_from_environment",
    "statement_sha256",
]
