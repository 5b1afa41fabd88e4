"""Sign a file before it is stored, and recognise one that was signed before: its bytes are never the same twice."""

from __future__ import annotations

import functools
from contextlib import ExitStack
from pathlib import PurePath, PurePosixPath
from typing import NamedTuple

from runcomfy.archive.provenance import archiver_name
from runcomfy.archive.temporary_file import Digest, ScratchFile, folder
from runcomfy.archive.transfer import TransferStop
from runcomfy.content_credentials import (
    Signing,
    SigningSettings,
    Statement,
    Unsigned,
    read_credentials,
    settings_from_environment,
)
from runcomfy.content_credentials.reading import is_installed
from runcomfy.content_credentials.signing import SIGNED_TYPES, Ingredient
from runcomfy.errors import ConfigurationError, RunComfyError, SigningFailed, TemporaryFileError
from runcomfy.media.marking import ai_packet
from runcomfy.storage.store import Store
from runcomfy.values import GenerationFacts, StagedFile

__all__ = ["Signed", "environment_signing", "has_mark", "recognised", "signed", "signing_by"]

_READ_BYTES = 1024 * 1024
_MOST_INGREDIENT_BYTES = 64 * 1024 * 1024
_UNNAMED = "a certificate without an organisation"


class Signed(NamedTuple):
    """A file as it is stored."""

    file: ScratchFile
    by: str | None
    """The organisation that signed it; `None` if it is not signed."""
    warnings: tuple[str, ...] = ()


def environment_signing() -> Signing | None:
    """Return what signs files, as the environment says; `None` if nothing does.

    Raises:
        ConfigurationError: its variables contradict each other.
    """
    settings = settings_from_environment()
    return signing_by(settings) if settings is not None else None


@functools.lru_cache(maxsize=8)
def signing_by(settings: SigningSettings) -> Signing:
    """Return what signs files as some settings say; the same for the same ones, so that it is tried out once."""
    name, _, version = archiver_name().partition("/")
    return Signing(settings, (name, version))


def signed(
    signing: Signing | None, file: ScratchFile, content_type: str, facts: GenerationFacts, index: int, source: Digest,
    store: Store, files: ExitStack, stop: TransferStop,
) -> Signed:  # fmt: skip
    """Return a signed copy of a file; the file itself where nothing signs it, or it cannot be signed and need not be.

    Args:
        signing: What signs; `None` if nothing does.
        file: The file, with its mark.
        content_type: Its media type; one that is not signed here is left as it is.
        facts: What is known of the generation.
        index: Which of its outputs it is.
        source: What the service sent.
        store: Where its inputs are staged.
        files: Closes the copy.
        stop: Ends the waiting when it is set.

    Raises:
        SigningFailed: it has to be signed, and cannot be.
    """
    if signing is None or content_type not in SIGNED_TYPES:
        return Signed(file, None)
    statement = Statement.of(facts, index, source.sha256)
    staged = (facts.image,) if facts.image else facts.staged
    try:
        into = files.enter_context(ScratchFile(folder()))
        ingredients = tuple(_ingredient(each, store) for each in staged)
        signing.sign(file.file, into.file, content_type, statement, ingredients=ingredients, check=stop.check)
        into.measure()
        made = read_credentials(into.file, content_type)
        if made is None or made.statement != statement:
            raise Unsigned("what was written has no signature of ours.")
    except (Unsigned, TemporaryFileError, ConfigurationError) as error:
        stop.check()
        why = _why(error, signing)
        if signing.required:
            raise SigningFailed(
                f"The file could not be signed, and has to be: {why}. It was not archived. Archive it again once that "
                "is fixed; that costs nothing more.",
                request_id=facts.request_id, generation_key=facts.generation_key, output_index=index,
            ) from None  # fmt: skip
        return Signed(file, None, (f"It is not signed: {why}.",))
    return Signed(into, made.signer or _UNNAMED)


def recognised(
    file: ScratchFile, content_type: str, facts: GenerationFacts, index: int, source_sha256: str
) -> str | None:
    """Return who signed a stored file that is this very output, by what is signed in it.

    `None` if it is another file.

    Args:
        file: What is stored.
        content_type: Its media type.
        facts: What is known of the generation.
        index: Which of its outputs is meant.
        source_sha256: The digest of what the service sent.
    """
    if content_type not in SIGNED_TYPES or not is_installed():
        return None
    found = read_credentials(file.file, content_type)
    said = found.statement if found is not None and found.is_valid else None
    if found is None or said is None:
        return None
    ours = (facts.request_id, index, source_sha256)
    if (said.request_id, said.output_index, said.source_sha256) != ours:
        return None
    return found.signer or _UNNAMED


def has_mark(file: ScratchFile, model_id: str) -> bool:
    """Whether the mark of a file as made by a model is in it; behind a signature, that may be anywhere."""
    packet, seen = ai_packet(model_id), b""
    file.file.seek(0)
    while piece := file.file.read(_READ_BYTES):
        seen = seen[-len(packet) :] + piece
        if packet in seen:
            return True
    return False


def _why(error: Exception, signing: Signing) -> str:
    """Return why a file is not signed, for its provenance: without folders of this machine."""
    why = error.message if isinstance(error, RunComfyError) else str(error)
    settings = signing.settings
    for path in (settings.certificate_name, *([settings.key_name] if settings.key else [])):
        why = why.replace(path, PurePath(path).name)
    return why.removesuffix(" Nothing was paid for.").rstrip(".")


def _ingredient(staged: StagedFile, store: Store) -> Ingredient:
    def read() -> bytes:
        return store.read(staged.key, staged.bucket, limit_bytes=_MOST_INGREDIENT_BYTES)

    return Ingredient(PurePosixPath(staged.key).name, staged.content_type, read)
