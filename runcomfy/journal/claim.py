"""Decide who submits: of all workers that want the same generation at most one, and none if one already has."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from runcomfy.errors import (
    ConfigurationError,
    GenerationCancelled,
    GenerationErased,
    GenerationFailed,
    RequestNotFound,
    RunComfyError,
    UncertainSubmission,
)
from runcomfy.interruption.keyboard import to_its_end
from runcomfy.interruption.shutdown import Hold
from runcomfy.journal.accepted import rejection_of
from runcomfy.journal.advice import advise
from runcomfy.journal.entry import RESTARTABLE, Entry, EntryState, Event
from runcomfy.journal.journal import Journal, Versioned, worker_name
from runcomfy.journal.situation import Situation
from runcomfy.journal.spec import GenerationSpec, known_spec
from runcomfy.policy import OnUncertain
from runcomfy.storage.commands import StoreOptions

__all__ = ["claim", "erased"]

_READ_EVERY_SECONDS = 2.0
_PREPARED_SECONDS = 60.0  # a URL that was signed longer ago is signed again
_REFUSED = EntryState.REFUSED
_PAID_ENDS = (EntryState.FAILED, EntryState.CANCELLED)  # perhaps: whether they are billed is unknown


async def claim(
    journal: Journal,
    spec: GenerationSpec,
    *,
    prepare: Callable[[], Awaitable[None]],
    known: Callable[[str], Awaitable[bool]],
    on_uncertain: OnUncertain = "stop",
    hold: Hold,
) -> Versioned:
    """Return the entry of the generation: an intent that is ours to submit, or one whose request is to be waited for.

    Args:
        journal: What all workers agree on.
        spec: What is to be generated.
        prepare: Awaited before the first intent is written, so that whatever may fail fails there.
        known: Whether the service knows a request; called if the journal has lost track of one.
        on_uncertain: What to do about a submission whose answer is unknown.
        hold: Begun before an intent is written; the caller ends it when the outcome is recorded.

    Returns:
        An entry that is an intent of this very call, or is submitted, detached or archived.

    Raises:
        UncertainSubmission: it is unknown whether it was submitted.
        GenerationFailed, GenerationCancelled: this run has had its attempt, or waited for that of another worker.
        GenerationErased: a person erased it.
        OutputRejected: a person rejected a file of it.
        RequestNotFound: it was submitted, and the service no longer knows it.
        ConfigurationError: the journal cannot be kept there, or the entry is about another service.
        StorageError: the journal could not be read or written; nothing was submitted.
    """
    spec = await known_spec(journal, spec)
    worker = worker_name()
    first = awaited = conflicts = 0  # attempts: the one that was found, and the last that was waited for
    prepared_at: float | None = None
    while True:
        found = await journal.read(spec.key)
        entry = found.entry if found else None
        first = first or (entry.attempt if entry else 0)
        pays_again = on_uncertain == "pay_again" and entry is not None and entry.attempt == first
        if found and entry and not _free(entry, spec, awaited, journal.store.where, pays_again=pays_again):
            if entry.state is EntryState.INTENT:
                awaited = entry.attempt
                await _wait_or_mark_uncertain(journal, found)
            elif entry.state in (EntryState.UNCERTAIN, EntryState.EXPIRED):
                await _find_again(journal, entry, known)
            else:
                return found
            continue
        if prepared_at is None or time.monotonic() - prepared_at > _PREPARED_SECONDS:
            await prepare()
            prepared_at = time.monotonic()
        intent = spec.intent(worker, journal.lease_seconds)
        hold.begin()
        if found and entry:
            writing = journal.replace(found, entry.begun_again(intent, worker=worker))
        else:
            writing = journal.create(intent)
        if claimed := await _refused_if_cancelled(journal, writing):
            return claimed
        hold.end()
        conflicts = await journal.pause_after_conflict(conflicts)


async def _refused_if_cancelled(journal: Journal, writing: Coroutine[Any, Any, Versioned | None]) -> Versioned | None:
    """Await the writing of an intent; if that is interrupted, record that nothing was sent."""
    written, interrupted = await to_its_end(writing)
    if interrupted is None:
        return written.result()
    if not written.cancelled() and written.exception() is None and (intent := written.result()):
        refused = intent.entry.moved(_REFUSED, worker=worker_name(), reason="interrupted before it was sent")
        recorded, _ = await to_its_end(journal.replace(intent, refused))
        recorded.cancelled() or recorded.exception()  # if it cannot be recorded, a stale intent is found later
    raise interrupted


def _free(entry: Entry, spec: GenerationSpec, awaited: int, where: str, *, pays_again: bool) -> bool:
    """Whether another attempt may be begun.

    Even with `pay_again`, no run pays again if the service can be asked about the request, and none pays more than
    twice.

    Raises:
        GenerationFailed, GenerationCancelled: this run had its attempt or waited for one, so its failure is ours too.
        GenerationErased: a person erased it.
        OutputRejected: a person rejected a file of it.
        ConfigurationError: the entry is about another service.
    """
    if entry.state is EntryState.ERASED:
        raise erased(entry)
    if (rejected := entry.rejected) is not None:
        options = StoreOptions.of(entry.store, where)
        raise rejection_of(rejected, entry.generation_key, options, model_id=entry.model_id)
    if entry.state is EntryState.UNCERTAIN:
        return pays_again and entry.request_id is None and entry.attempts_of(spec.run) < 2
    if entry.state in RESTARTABLE:
        ended = _end_of_own_attempt(entry, spec.run, awaited)
        if ended is not None and entry.state is not EntryState.RELEASED:
            raise _had_its_attempt(entry, ended)
        return True
    if not spec.is_for(entry.service):
        raise ConfigurationError(
            f"Generation {entry.generation_key[:12]} was submitted to {entry.service}, and this run is for "
            f"{spec.service}. Give each service a prefix of its own, or set another variation."
        )
    return False


def erased(entry: Entry) -> GenerationErased:
    """Return the error for a generation that a person erased: all that is left of it is that it was paid for."""
    at = next((event.at for event in reversed(entry.history) if event.state is EntryState.ERASED), entry.updated_at)
    error = GenerationErased(
        f"Generation {entry.generation_key[:12]} was erased by a person on {at:%Y-%m-%d}, with its files. It is not "
        "made and paid for again by itself: set a variation for another one of its kind, or release it in the journal.",
        generation_key=entry.generation_key, model_id=entry.model_id,
    )  # fmt: skip
    error.cause = error.message
    return error


def _end_of_own_attempt(entry: Entry, run: str, awaited: int) -> Event | None:
    """Return how the attempt ended that this run had, or waited for; `None` if there is none, or it cost nothing."""
    if entry.attempt == awaited and entry.state in _PAID_ENDS:
        return entry.history[-1]
    own = (event for event in reversed(entry.history) if run and event.run == run and event.state in _PAID_ENDS)
    return next(own, None)


def _had_its_attempt(entry: Entry, ended: Event) -> RunComfyError:
    kind = GenerationFailed if ended.state is EntryState.FAILED else GenerationCancelled
    why = (ended.reason or "no reason is known").rstrip(".")
    return kind(
        f"The generation was {ended.state}, and this run submitted it or waited for it: {why}. A retry of the same run "
        "pays no second time. Start another run for another attempt.",
        request_id=ended.request_id, generation_key=entry.generation_key,
    )  # fmt: skip


async def _wait_or_mark_uncertain(journal: Journal, found: Versioned) -> None:
    """Wait a moment for the worker who is submitting, or record that it must have died while it did."""
    if left := found.lease_remaining_seconds:
        await journal.sleep(min(left, _READ_EVERY_SECONDS))
        return
    await journal.replace(found, found.entry.marked_uncertain(worker=worker_name()))


async def _find_again(journal: Journal, entry: Entry, known: Callable[[str], Awaitable[bool]]) -> None:
    """Return a lost request to `submitted` if the service knows it after all; asking costs nothing.

    Raises:
        UncertainSubmission, RequestNotFound: it does not, or no request id is known.
    """
    request_id = entry.request_id
    if request_id and await known(request_id):
        await journal.advance(
            entry.generation_key, request_id, EntryState.SUBMITTED, reason="the service knows the request after all"
        )
        return
    raise _lost(journal, entry)


def _lost(journal: Journal, entry: Entry) -> UncertainSubmission | RequestNotFound:
    """Return the error for an entry that a person has to check."""
    advice = advise(Situation.of(entry), StoreOptions.of(entry.store, journal.store.where))
    short, sent_at = entry.generation_key[:12], entry.began_at.isoformat()
    error: UncertainSubmission | RequestNotFound
    if entry.state is EntryState.UNCERTAIN:
        why = (entry.reason or "no reason is known").rstrip(".")
        happened = f"It is unknown what became of the submission of generation {short}: {why}."
        error = UncertainSubmission(
            f"{happened} It may be running and billed, so it is not sent again. {advice.text}",
            model_id=entry.model_id, generation_key=entry.generation_key, sent_at=sent_at, request_id=entry.request_id,
        )  # fmt: skip
    else:
        happened = f"Generation {short} was submitted, and the service no longer knows its request."
        error = RequestNotFound(
            f"{happened} It is not submitted again by itself. {advice.text}",
            request_id=entry.request_id, generation_key=entry.generation_key,
        )  # fmt: skip
    error.cause = happened
    return error
