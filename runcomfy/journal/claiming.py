"""Decide who submits: of all workers that want the same generation, at most one, and nobody where one has already."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Literal

import anyio

from runcomfy.errors import (
    ConfigurationError,
    GenerationCancelled,
    GenerationFailed,
    RequestNotFound,
    RunComfyError,
    StorageError,
    UncertainSubmission,
)
from runcomfy.journal.entry import RESTARTABLE, Entry, EntryState
from runcomfy.journal.journal import Journal, Versioned, worker_name
from runcomfy.journal.spec import GenerationSpec

__all__ = ["OnUncertain", "claim", "uncertain"]

OnUncertain = Literal["stop", "pay_again"]
"""What a run does that finds an uncertain submission: it stops, and a person decides; or it submits again, knowing that
both may be paid for."""

_LOOK_SECONDS = 2.0
_PATIENCE_SECONDS = 20.0
_REFUSED = EntryState.REFUSED


async def claim(
    journal: Journal,
    spec: GenerationSpec,
    *,
    prepare: Callable[[], Awaitable[None]],
    known: Callable[[str], Awaitable[bool]],
    on_uncertain: OnUncertain = "stop",
) -> Versioned:
    """Return the entry of the generation: an intent that is ours to submit, or one whose request is to be followed.

    Args:
        journal: What all workers agree on.
        spec: What is to be generated.
        prepare: Awaited once, before the first intent is written: whatever may fail is to fail there.
        known: Whether the service knows a request; asked where the journal has lost track of one.
        on_uncertain: What to do about a submission that nobody knows the answer of.

    Returns:
        An entry that is an intent of this very call, or is submitted, detached or archived.

    Raises:
        UncertainSubmission: it may have been submitted, and nobody knows.
        GenerationFailed, GenerationCancelled: this run has had its attempt, or waited for that of another worker.
        RequestNotFound: it was submitted, and the service does not know it any more.
        ConfigurationError: the journal cannot be kept there, or the entry is about another service.
        StorageError: the journal could not be read or written; nothing was submitted.
    """
    worker = worker_name()
    witnessed = 0
    prepared = False
    while True:
        found = await journal.read(spec.key)
        entry = found.entry if found else None
        if found and entry and not _free(entry, spec, witnessed, on_uncertain):
            if entry.state is EntryState.INTENT:
                witnessed = entry.attempt
                await _wait_or_give_up(journal, found)
            elif entry.state in (EntryState.UNCERTAIN, EntryState.EXPIRED):
                await _find_again(journal, entry, known)
            else:
                return found
            continue
        if not prepared:
            await prepare()
            prepared = True
        intent = spec.intent(worker)
        if found and entry:
            writing = journal.replace(found, entry.begun_again(intent, worker=worker))
        else:
            writing = journal.create(intent)
        if claimed := await _taken_back_if_cancelled(journal, writing):
            return claimed


async def _taken_back_if_cancelled(
    journal: Journal, writing: Coroutine[Any, Any, Versioned | None]
) -> Versioned | None:
    """Await the writing of an intent; if that is interrupted, say that nothing was sent."""
    work = asyncio.ensure_future(writing)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        with anyio.move_on_after(_PATIENCE_SECONDS, shield=True), suppress(StorageError):
            if intent := await work:
                reason = "interrupted before it was sent"
                await journal.replace(intent, intent.entry.moved(_REFUSED, worker=worker_name(), reason=reason))
        raise


def _free(entry: Entry, spec: GenerationSpec, witnessed: int, on_uncertain: OnUncertain) -> bool:
    """Whether another attempt may be begun.

    Raises:
        GenerationFailed, GenerationCancelled: an attempt was, and its failure is ours as well.
    """
    if entry.state is EntryState.UNCERTAIN and on_uncertain == "pay_again":
        return True
    if entry.state in RESTARTABLE:
        ours = entry.attempt == witnessed or (entry.run == spec.run != "")
        if ours and entry.state in (EntryState.FAILED, EntryState.CANCELLED):
            raise _had_its_attempt(entry)
        return True
    if not spec.is_for(entry.service):
        raise ConfigurationError(
            f"Generation {entry.generation_key[:12]} was submitted to {entry.service}, and this run is for "
            f"{spec.service}. Give each service a prefix of its own, or set another variation."
        )
    return False


def _had_its_attempt(entry: Entry) -> RunComfyError:
    kind = GenerationFailed if entry.state is EntryState.FAILED else GenerationCancelled
    return kind(
        f"This run has submitted the generation already, and it was {entry.state}: {entry.reason or 'no reason given'} "
        "A retry of the same run pays no second time. Start another run for another attempt.",
        request_id=entry.request_id, generation_key=entry.generation_key, cost_usd=entry.cost_usd,
    )  # fmt: skip


async def _wait_or_give_up(journal: Journal, found: Versioned) -> None:
    """Wait a moment for the worker who is submitting, or note that it must have died in the middle of it."""
    left = journal.patience_seconds - found.age_seconds
    if left > 0:
        await journal.sleep(min(left, _LOOK_SECONDS))
        return
    reason = f"{found.entry.history[-1].worker} did not say what became of its submission"
    await journal.replace(found, found.entry.moved(EntryState.UNCERTAIN, worker=worker_name(), reason=reason))


async def _find_again(journal: Journal, entry: Entry, known: Callable[[str], Awaitable[bool]]) -> None:
    """Follow a lost request again if the service knows it after all; asking costs nothing.

    Raises:
        UncertainSubmission, RequestNotFound: it does not, or no request id is known.
    """
    request_id = entry.request_id
    if request_id and await known(request_id):
        await journal.advance(
            entry.generation_key, request_id, EntryState.SUBMITTED, reason="the service knows the request after all"
        )
        return
    if entry.state is EntryState.UNCERTAIN:
        raise uncertain(entry)
    raise RequestNotFound(
        f"Generation {entry.generation_key[:12]} was submitted, and the service does not know its request any more. "
        f"It was probably paid for, so it is not submitted again by itself: allow that with "
        f"`journal release {entry.generation_key[:12]}`.",
        request_id=request_id, generation_key=entry.generation_key,
    )  # fmt: skip


def uncertain(entry: Entry) -> UncertainSubmission:
    """Return the error for an entry that a person has to look at."""
    short, why = entry.generation_key[:12], (entry.reason or "no reason is known").rstrip(".")
    sent_at = entry.began_at
    return UncertainSubmission(
        f"Nobody knows what became of the submission of generation {short}: {why}. It "
        f"may be running and billed, so it is not sent again. Look for a {entry.model_id} request sent at "
        f"{sent_at:%Y-%m-%d %H:%M:%S} UTC in RunComfy's dashboard, then run `journal adopt {short} REQUEST_ID`, or "
        f"`journal release {short}` if there is none.",
        model_id=entry.model_id, generation_key=entry.generation_key, sent_at=sent_at.isoformat(),
        request_id=entry.request_id,
    )  # fmt: skip
