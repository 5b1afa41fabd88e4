"""Submit a generation once: the intent is written before the paid call, its request id right after it.

No journal, no submission; and no accepted request is lost, whatever interrupts this process, short of a kill.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx

from runcomfy.api.client import LINE_SECONDS, PAID_CALL_SECONDS, RunComfyClient
from runcomfy.api.refusals import ANOTHER_ACCOUNT, classify_submission
from runcomfy.errors import (
    RateLimited,
    RequestNotFound,
    RunComfyError,
    StillRateLimited,
    StorageError,
    SubmissionNotSent,
    UncertainSubmission,
)
from runcomfy.interruption.keyboard import to_its_end
from runcomfy.interruption.shutdown import Hold, Unanswered, shutdown
from runcomfy.journal.accepted import submission_of
from runcomfy.journal.advice import advise_on_error
from runcomfy.journal.claim import claim
from runcomfy.journal.entry import Entry, EntryState
from runcomfy.journal.journal import LEASE_SECONDS, Journal, Versioned, worker_name
from runcomfy.journal.spec import GenerationSpec
from runcomfy.models import ModelInputs, workload_of
from runcomfy.policy import OnUncertain
from runcomfy.storage.commands import StoreOptions
from runcomfy.telemetry.metrics import retried, submission_answered
from runcomfy.values import Archive, Submission

__all__ = ["submit_once"]

logger = logging.getLogger(__name__)

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
_LONGEST_PAUSE_SECONDS = 120.0
_CONCLUDE_SECONDS = 20.0
_RENEW_AFTER_SECONDS = 15.0  # an intent that is older is renewed before it is sent
_SHORTEST_CALL_SECONDS = 5.0
_MOST_LIMITED = 6
_LIMITED_WITHIN = timedelta(days=1)
if _RENEW_AFTER_SECONDS + LINE_SECONDS + PAID_CALL_SECONDS >= LEASE_SECONDS:  # or a living worker counts as dead
    raise AssertionError("the journal's lease must outlive the paid call")
_GONE = "its archived file is not in the bucket any more"


async def submit_once(
    client: RunComfyClient,
    journal: Journal,
    spec: GenerationSpec,
    *,
    prepare: Callable[[], Awaitable[ModelInputs]],
    intact: Callable[[Archive], Awaitable[bool]],
    on_uncertain: OnUncertain = "stop",
    on_interrupt: Callable[[Submission], Awaitable[None]] | None = None,
    authorise: Callable[[], Awaitable[None]] | None = None,
    attempts: int = 5,
) -> Submission:
    """Return the generation's submission: the existing one, or a new one.

    Args:
        client: The service.
        journal: What all workers agree on.
        spec: What is to be generated.
        prepare: Makes sure that it can be, and returns the inputs as they are sent, with signed URLs. Awaited only if
            it is to be submitted, and before the intent is written.
        intact: Whether an archive still exists where the journal says.
        on_uncertain: What to do about an earlier submission whose answer is unknown.
        on_interrupt: Awaited with the accepted request if this is cancelled in the meantime.
        authorise: Awaited right before each paid call, repeated ones included: what is reserved for a call that was
            answered with 429 may be owed. If it raises, nothing more is sent, the entry becomes `refused`, and the
            error is raised unchanged.
        attempts: How often to try while the submission is certainly not accepted.

    Returns:
        The submission; with its `archive` if the generation is done.

    Raises:
        UncertainSubmission: it may be accepted and billed.
        SubmissionNotSent, ServiceError: it was certainly not accepted.
        GenerationFailed, GenerationCancelled: this run has had its attempt.
        RequestNotFound: the service no longer knows an earlier request.
        ConfigurationError: the journal cannot be kept there, or is about another service.
        StorageError: the journal failed. With a `request_id`: it was accepted, and could not be recorded.
    """
    prepared: list[ModelInputs] = []

    async def prepare_all() -> None:
        await journal.check()
        prepared.append(await prepare())

    async def known(request_id: str) -> bool:
        try:
            await client.status(request_id)
        except RequestNotFound as error:
            if error.error_code == ANOTHER_ACCOUNT:
                raise
            return False
        return True

    async with shutdown.hold() as hold:
        while True:
            claimed = await claim(journal, spec, prepare=prepare_all, known=known, on_uncertain=on_uncertain, hold=hold)
            entry = claimed.entry
            if entry.state is EntryState.INTENT:
                attempt = _Attempt(client, journal, claimed, prepared[-1], hold, authorise, on_interrupt)
                return await attempt.submit(attempts)
            if entry.state is not EntryState.ARCHIVED or (entry.archive and await intact(entry.archive)):
                return submission_of(entry, age_seconds=claimed.age_seconds)
            await journal.advance(  # unless it has moved since
                entry.generation_key, entry.request_id or "", EntryState.DETACHED, reason=_GONE,
                file_is_gone=entry.archive or True,
            )  # fmt: skip


@dataclass
class _Attempt:
    """One intent of ours, and its outcome."""

    client: RunComfyClient
    journal: Journal
    intent: Versioned
    inputs: ModelInputs
    hold: Hold
    authorise: Callable[[], Awaitable[None]] | None
    on_interrupt: Callable[[Submission], Awaitable[None]] | None
    accepted: Submission | None = None

    async def submit(self, attempts: int) -> Submission:
        """Make the paid call, again only while it was certainly not accepted; record its outcome."""
        try:
            for number in range(1, attempts + 1):
                outcome = await self._pay(first=number == 1)
                if isinstance(outcome, Submission):
                    return outcome
                if not isinstance(outcome, SubmissionNotSent | RateLimited) or number == attempts:
                    answered = "not_sent" if isinstance(outcome, SubmissionNotSent) else "refused"
                    submission_answered(answered, self.inputs.model_id)
                    raise outcome
                retried("submit")
                if isinstance(outcome, RateLimited):  # these are counted over all runs
                    await self._move(EntryState.INTENT, outcome.message, error=outcome)
                # few and far between: each answer of 429 may hide an acceptance
                growth = 4.0 if isinstance(outcome, RateLimited) else 2.0
                pause_seconds = min(outcome.retry_after_seconds or growth**number, _LONGEST_PAUSE_SECONDS)
                await self.hold.pause(self.journal.sleep(pause_seconds))
            raise ValueError("attempts must be at least 1")
        except BaseException as error:
            if self.accepted is None:
                with anyio.move_on_after(_CONCLUDE_SECONDS, shield=True):
                    await self._conclude(error)
            raise

    async def _pay(self, *, first: bool) -> Submission | RunComfyError:
        """Make the paid call once; return the request, or the error that says why it was certainly not accepted."""
        self.hold.check()
        if self.authorise is not None:
            await self.authorise()
        await self._renew(first=first)  # last of all: from here on the lease runs
        self.hold.check()
        sent_at = datetime.now(UTC)
        model_id, generation_key = self.inputs.model_id, self.intent.entry.generation_key
        workload = workload_of(
            model_id, self.intent.entry.inputs
        )  # nothing that may fail comes between answer and record

        async def send_and_record() -> Submission | RunComfyError:
            answer = await self._send()
            if isinstance(answer, RunComfyError):
                return answer
            self.accepted = Submission(
                request_id=answer,
                model_id=model_id,
                generation_key=generation_key,
                submitted_at=sent_at,
                workload=workload,
            )
            await self._record(self.accepted)
            submission_answered("accepted", model_id)
            return self.accepted

        sending, interrupted = await to_its_end(send_and_record())
        if sending.cancelled():  # an event loop that shuts down: how far it got is unknown
            request_id = self.accepted.request_id if self.accepted else None
            outcome: Submission | RunComfyError = UncertainSubmission(
                "This process was stopped while it submitted.", request_id=request_id
            )
        else:
            outcome = sending.result()

        if isinstance(outcome, RunComfyError):
            outcome.model_id, outcome.generation_key = model_id, generation_key
            if not isinstance(outcome, SubmissionNotSent):
                outcome.sent_at = sent_at.isoformat()
        if isinstance(outcome, UncertainSubmission):  # that it may be paid for outweighs an interruption
            submission_answered("uncertain", model_id)
            raise self._advised(outcome, "It may be running and billed, so it is not sent again.")
        if interrupted is None:
            return outcome
        if isinstance(outcome, RunComfyError):
            raise interrupted from outcome
        if self.on_interrupt is not None:
            await self.on_interrupt(outcome)
        raise interrupted

    async def _renew(self, *, first: bool) -> None:
        """Check that it was not sent too often, and renew the lease, unless a first call follows the intent at once.

        Raises:
            StillRateLimited: it was answered with 429 too often within a day, in this run and all before it; each of
                those may have been accepted and billed.
            SubmissionNotSent: the intent is no longer ours.
        """
        entry, now = self.intent.entry, datetime.now(UTC)
        if entry.errors_since(now - _LIMITED_WITHIN, RateLimited.__name__) >= _MOST_LIMITED:
            raise StillRateLimited(
                f"The submission was answered with 429 {_MOST_LIMITED} times within a day, and is not sent again "
                "before that is over: the service says that it accepted none of them, and if that is not true, each "
                f"was paid for. Look for {entry.model_id} requests in RunComfy's dashboard, and ask RunComfy for its "
                "limits; then run fewer at once.",
                generation_key=entry.generation_key,
            )
        renew_after_seconds = min(_RENEW_AFTER_SECONDS, self.journal.lease_seconds / 12)
        if first and (now - entry.updated_at).total_seconds() < renew_after_seconds:
            return
        if not await self._move(EntryState.INTENT):
            raise SubmissionNotSent(
                "This submission was taken for abandoned while it was tried, and somebody released it. It is not sent."
            )

    async def _send(self) -> str | RunComfyError:
        """Return the request id that is answered, or the error that the answer, or its absence, means."""
        within_seconds = max(self.journal.lease_seconds * 2 / 3, _SHORTEST_CALL_SECONDS)
        call = self.client.post_submission(self.inputs, within_seconds=within_seconds)
        try:
            return classify_submission(await self.hold.answer(call))
        except _NEVER_SENT as error:
            return SubmissionNotSent(f"The submission was not sent. {self.client.why_unreachable(error)}")
        except httpx.HTTPError as error:
            return UncertainSubmission(
                f"The connection broke before the submission was answered ({type(error).__name__})."
            )
        except Unanswered:
            return UncertainSubmission("The process that sent it was told to stop, and it was not answered in time.")
        except asyncio.CancelledError:  # an event loop that shuts down cancels every task, this one too
            return UncertainSubmission("The process that sent it was stopped before it was answered.")
        except Exception as error:
            # how far it got is unknown: some errors of TLS are not wrapped by httpx
            return UncertainSubmission(f"The submission broke off with {type(error).__name__}.")
        # A signal that raises (SystemExit, KeyboardInterrupt, Prefect's TerminationSignal) propagates.

    async def _move(self, state: EntryState, reason: str | None = None, **changes: Any) -> bool:
        """Write the next state of this attempt, even if it was called uncertain since; `False` if it is over."""
        current: Versioned | None = self.intent
        conflicts = 0
        while current is not None:
            entry = current.entry
            alive = entry.state in (EntryState.INTENT, EntryState.UNCERTAIN)
            if entry.attempt != self.intent.entry.attempt or not alive:
                return False
            moved = entry.moved(state, worker=worker_name(), reason=reason, **changes)
            if written := await self.journal.replace(current, moved):
                self.intent = written
                return True
            conflicts = await self.journal.pause_after_conflict(conflicts)
            current = await self.journal.read(entry.generation_key)
        return False

    async def _record(self, submission: Submission) -> None:
        """Record the request id, retrying for minutes if need be: it is paid for."""
        logger.info("Request %s was accepted for generation %s", submission.request_id, submission.generation_key[:12])
        current: Versioned | None = self.intent
        seconds = self.journal.record_seconds
        conflicts = 0
        try:
            while current is not None:
                entry = current.entry
                if entry.request_id == submission.request_id:
                    return
                if await self.journal.replace(current, self._accepted_entry(entry, submission), seconds=seconds):
                    return
                conflicts = await self.journal.pause_after_conflict(conflicts)
                current = await self.journal.read(submission.generation_key, seconds=seconds)
        except StorageError as error:
            error.request_id, error.generation_key = submission.request_id, submission.generation_key
            error.message = (
                f"Request {submission.request_id} was accepted, and is probably billed, but the journal could not be "
                f"written: {error.message}"
            )
            raise self._advised(error) from error

    def _advised(self, error: UncertainSubmission | StorageError, *more: str) -> UncertainSubmission | StorageError:
        """Return the error with what to do now in its message, too; its `cause` says what happened."""
        entry = self.intent.entry
        advice = advise_on_error(error, StoreOptions.of(entry.store, self.journal.store.where), entry.model_id)
        advised = replace(error, message=" ".join([error.message, *more, advice.text]))
        advised.cause = error.message
        return advised

    def _accepted_entry(self, entry: Entry, submission: Submission) -> Entry:
        request_id = submission.request_id
        if entry.attempt == self.intent.entry.attempt and entry.may_become(EntryState.SUBMITTED):
            return entry.moved(
                EntryState.SUBMITTED, worker=worker_name(), request_id=request_id, submitted_at=submission.submitted_at
            )
        # A person released it, and another attempt is in progress: this request is kept in the history at least.
        reason = f"an earlier attempt, given up for lost, was accepted as {request_id}"
        late = entry.moved(entry.state, worker=worker_name(), reason=reason)
        own = {"request_id": request_id, "attempt": self.intent.entry.attempt}
        event = late.history[-1].model_copy(update=own)
        return late.model_copy(update={"history": (*late.history[:-1], event), "reason": entry.reason})

    async def _conclude(self, error: BaseException) -> None:
        """Record that it was not accepted, or that this is unknown. If that fails, a stale intent says the same."""
        # Refused needs evidence: an answer that says so, or a cancellation, which waits for the answer.
        refused = isinstance(error, asyncio.CancelledError | RunComfyError) and not isinstance(
            error, UncertainSubmission
        )
        state, named = EntryState.REFUSED if refused else EntryState.UNCERTAIN, {}
        reason = error.message if isinstance(error, RunComfyError) else f"interrupted ({type(error).__name__})"
        if isinstance(error, UncertainSubmission):
            reason = error.cause or error.message
            named = {"request_id": error.request_id} if error.request_id else {}
        limited = error.__cause__ if isinstance(error.__cause__, RateLimited) else None  # interrupted at that answer
        try:
            await self._move(state, reason, error=limited or error, **named)
        except StorageError as trouble:
            key = self.intent.entry.generation_key[:12]
            logger.warning("The journal could not record that generation %s is %s: %s", key, state, trouble)
