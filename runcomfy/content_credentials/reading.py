"""Check the Content Credentials of a file: whether there are some, whether they hold, and what ours say."""

from __future__ import annotations

import functools
import importlib
import json
from dataclasses import dataclass
from typing import Any, BinaryIO

from pydantic import ValidationError

from runcomfy.content_credentials.statement import LABEL, Statement
from runcomfy.errors import ConfigurationError
from runcomfy.extras import needed

__all__ = ["Credentials", "is_installed", "library", "read_credentials"]

_UNTRUSTED = "signingCredential.untrusted"  # whom to trust is for the reader to say


@dataclass(frozen=True)
class Credentials:
    """What the signature of a file says."""

    is_valid: bool
    """Whether nothing was changed since; not whether the signer is to be trusted."""
    problems: tuple[str, ...]
    """What is wrong, by the names of the standard."""
    signer: str | None
    """The organisation in the signer's certificate, as it calls itself."""
    statement: Statement | None
    """What we said; `None` if somebody else signed it."""
    ingredients: tuple[str, ...] = ()
    """The titles of the files that it was made of."""


def library(what: str) -> Any:
    """Return the library; one that is installed and cannot be loaded counts as missing.

    Args:
        what: What needs it, as the beginning of a sentence.

    Raises:
        ConfigurationError: it is not there.
    """
    with needed("c2pa", what):
        try:
            return importlib.import_module("c2pa")
        except ImportError:
            raise
        except Exception as error:  # a binary of another machine, a missing library of the system
            raise ImportError(f"{type(error).__name__}", name="c2pa") from None


@functools.cache
def is_installed() -> bool:
    """Whether signatures can be checked here."""
    try:
        library("Checking signatures")
    except ConfigurationError:
        return False
    return True


def read_credentials(file: BinaryIO, content_type: str) -> Credentials | None:
    """Return what a file's Content Credentials say; `None` if it has none. Blocks.

    Args:
        file: The file, seekable.
        content_type: Its media type.

    Raises:
        ConfigurationError: the extra is missing.
    """
    c2pa = library("Checking signatures")
    file.seek(0)
    try:
        with c2pa.Reader(content_type, file) as reader:
            found, state = json.loads(reader.json()), reader.get_validation_state()
    except c2pa.C2paError as error:
        if "ManifestNotFound" in type(error).__name__ or "NotSupported" in type(error).__name__:
            return None
        return Credentials(False, (type(error).__name__.lstrip("_"),), None, None)
    active = found.get("manifests", {}).get(found.get("active_manifest"), {})
    problems = tuple(
        dict.fromkeys(
            str(each.get("code")) for each in found.get("validation_status", []) if each.get("code") != _UNTRUSTED
        )
    )
    return Credentials(
        is_valid=state in ("Valid", "Trusted"),
        problems=problems,
        signer=(active.get("signature_info") or {}).get("issuer"),
        statement=_statement(active),
        ingredients=tuple(str(each.get("title")) for each in active.get("ingredients", [])),
    )


def _statement(manifest: Any) -> Statement | None:
    for assertion in manifest.get("assertions", []):
        if assertion.get("label") == LABEL:
            try:
                return Statement.model_validate(assertion.get("data"))
            except ValidationError:
                return None
    return None
