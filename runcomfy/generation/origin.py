"""Where a request comes from that is archived by its id alone: the journal is asked for its generation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from runcomfy.archive.archive import verify_exists
from runcomfy.errors import ConfigurationError, InvalidInput
from runcomfy.generation.destination import Destination
from runcomfy.generation.hooks import Log
from runcomfy.journal import EntryState, erased, find_request, inputs_of, rejection_of, same_service
from runcomfy.models import ModelInputs, model_id_of, short_names
from runcomfy.storage.commands import shell_command
from runcomfy.values import StagedFile, Submission

__all__ = ["Origin", "origin_of"]

_GONE = "its archived file is not in the bucket any more"


@dataclass(frozen=True)
class Origin:
    """Where a request comes from, and where its files go. Without a journal entry, only the model is known."""

    model_id: str
    destination: Destination
    submission: Submission | None = None
    inputs: ModelInputs | None = None
    staged: tuple[StagedFile, ...] = ()


async def origin_of(request_id: str, service: str, destination: Destination, model_id: str | None, log: Log) -> Origin:
    """Return what is known of a request.

    Args:
        request_id: The request.
        service: The base URL that is asked for its files.
        destination: The bucket whose journal is asked.
        model_id: The model that the caller says it was submitted to; not needed if the journal knows the request.
        log: Gets the progress of the search.

    Raises:
        GenerationErased: a person erased its generation.
        InvalidInput: the journal has another model, or does not know the request and no model is given; or two
            generations name the request.
        ConfigurationError: it was submitted to another service.
        StorageError: the journal could not be read.
    """
    given = model_id_of(model_id) if model_id else None
    known = await find_request(destination.journal, request_id, progress=_progress(request_id, log))
    if known is None:
        if given is None:
            raise InvalidInput(_model_is_missing(request_id, destination), request_id=request_id)
        return Origin(given, destination)
    entry = known.entry
    if entry.state is EntryState.ERASED:
        raise erased(entry)
    if given not in (None, entry.model_id):
        fetch = shell_command("fetch", request_id, *destination.options.for_archive)
        raise InvalidInput(
            f"Request {request_id} was submitted to {entry.model_id} (generation {entry.generation_key[:12]}), and not "
            f"to {given}. Nothing was archived. To archive it: `{fetch}`",
            request_id=request_id, generation_key=entry.generation_key, model_id=entry.model_id,
        )  # fmt: skip
    if not same_service(entry.service, service):
        raise ConfigurationError(
            f"Request {request_id} was submitted to {entry.service}, and this account is at {service}: ask there.",
            request_id=request_id, generation_key=entry.generation_key, model_id=entry.model_id,
        )  # fmt: skip
    actual = destination.at(entry.store)
    if (rejected := entry.rejected) is not None:
        raise rejection_of(rejected, entry.generation_key, actual.options, model_id=entry.model_id)
    if actual is not destination:
        log.warning("Generation %s belongs to %s, and is archived there", entry.generation_key[:12], entry.store)
    submission = known.submission
    if submission.archive and not await asyncio.to_thread(verify_exists, submission.archive.videos, actual.store):
        await destination.journal.advance(
            entry.generation_key, request_id, EntryState.DETACHED, reason=_GONE, file_is_gone=submission.archive
        )
        submission = submission.model_copy(update={"archive": None})
    return Origin(entry.model_id, actual, submission, inputs_of(entry), entry.files)


def _progress(request_id: str, log: Log) -> Callable[[int, int], None]:
    return lambda read, entries: log.info(
        "Looked for request %s in %d of %d generations of the journal, the latest first", request_id, read, entries
    )


def _model_is_missing(request_id: str, destination: Destination) -> str:
    without = (
        "There is no journal that knows"
        if destination.journal_choice == "none"
        else f"The journal in {destination.journal.store.where} does not know"
    )
    fetch = shell_command("fetch", request_id, "--model", "MODEL", *destination.options.for_archive)
    return (
        f"{without} request {request_id}, so name the model that it was submitted to: `{fetch}`, where MODEL is "
        f"{', '.join(short_names())}, or the id of any other model. Nothing was archived."
    )
