"""Submit a generation once: the intent before the paid call, its request id right after it.

No journal, no submission; and nothing that was accepted is forgotten, whatever interrupts this process but a kill.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx

from runcomfy._uninterrupted import to_its_end
from runcomfy.client import LINE_SECONDS, PAID_CALL_SECONDS, RunComfyClient
from runcomfy.errors import (
    RateLimited,
    RequestNotFound,
    RunComfyError,
    StillRateLimited,
    StorageError,
    SubmissionNotSent,
    UncertainSubmission,
)
from runcomfy.journal.accepted import submission_of
from runcomfy.journal.claiming import claim
from runcomfy.journal.entry import Entry, EntryState
from runcomfy.journal.journal import LEASE_SECONDS, Journal, Versioned, worker_name
from runcomfy.journal.spec import GenerationSpec
from runcomfy.models import ModelInputs
from runcomfy.policy import OnUncertain
from runcomfy.refusals import ANOTHER_ACCOUNT, classify_submission
from runcomfy.run_times import workload_of
from runcomfy.shutdown import Hold, Unanswered, shutdown
from runcomfy.telemetry.metrics import retried, submission_answered
from runcomfy.values import Archive, Submission

__all__ = ["submit_once"]

logger = logging.getLogger(__name__)

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
_LONGEST_WAIT_SECONDS = 120.0
_PATIENCE_SECONDS = 20.0
_FRESH_SECONDS = 15.0  # an intent that is older is renewed before it is sent
_SHORTEST_CALL_SECONDS = 5.0
_MOST_LIMITED = 6
_LIMITED_WITHIN = timedelta(days=1)
if _FRESH_SECONDS + LINE_SECONDS + PAID_CALL_SECONDS >= LEASE_SECONDS:  # or a living worker passes for a dead one
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
    """Return the generation's submission: the one that there is, or one that is made here and now.

    Args:
        client: The service.
        journal: What all workers agree on.
        spec: What is to be generated.
        prepare: Makes sure that it can be, and returns the inputs as they are sent, with signed URLs. Awaited only if
            it is to be submitted, and before that is written down.
        intact: Whether an archive still stands where the journal says.
        on_uncertain: What to do about an earlier submission that nobody knows the answer of.
        on_interrupt: Awaited with the accepted request if this is cancelled meanwhile.
        authorise: Awaited right before each paid call, the first one and every one that is sent after it: what is
            reserved for a call that was answered with 429 may be owed. If it raises, nothing more is sent, the entry
            says that it was refused, and the error comes out unchanged.
        attempts: How often to try while the submission is surely not accepted.

    Returns:
        The submission; with its `archive` where the generation is done.

    Raises:
        UncertainSubmission: it may be accepted and billed.
        SubmissionNotSent, ServiceError: it was surely not accepted.
        GenerationFailed, GenerationCancelled: this run has had its attempt.
        RequestNotFound: an earlier request is not known any more.
        ConfigurationError: the journal cannot be kept there, or is about another service.
        StorageError: the journal failed. With a `request_id`: it was accepted, and could not be written down.
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
                return await _Attempt(client, journal, claimed, attempts, hold).submit(
                    prepared[-1], on_interrupt=on_interrupt, authorise=authorise
                )
            if entry.state is not EntryState.ARCHIVED or (entry.archive and await intact(entry.archive)):
                return submission_of(entry, age_seconds=claimed.age_seconds)
            await journal.advance(entry.generation_key, entry.request_id or "", EntryState.DETACHED, reason=_GONE)


class _Attempt:
    """One intent of ours, and what becomes of it."""

    def __init__(self, client: RunComfyClient, journal: Journal, intent: Versioned, attempts: int, hold: Hold) -> None:
        self._client = client
        self._journal = journal
        self._intent = intent
        self._attempts = attempts
        self._hold = hold
        self._tries = 0
        self._accepted: Submission | None = None

    async def submit(
        self,
        inputs: ModelInputs,
        *,
        on_interrupt: Callable[[Submission], Awaitable[None]] | None,
        authorise: Callable[[], Awaitable[None]] | None,
    ) -> Submission:
        """Make the paid call, and write down its outcome."""
        try:
            return await _submit(
                self._client,
                inputs,
                generation_key=self._intent.entry.generation_key,
                attempts=self._attempts,
                authorise=authorise,
                record=self._record,
                announce=self._announce,
                limited=self._limited,
                within_seconds=max(self._journal.patience_seconds * 2 / 3, _SHORTEST_CALL_SECONDS),
                on_interrupt=on_interrupt,
                hold=self._hold,
                sleep=self._journal.sleep,
            )
        except BaseException as error:
            if self._accepted is None:
                with anyio.move_on_after(_PATIENCE_SECONDS, shield=True):
                    await self._conclude(error)
            elif isinstance(error, UncertainSubmission):  # this process is being stopped, and it could not be recorded
                error.request_id = self._accepted.request_id
            raise

    async def _announce(self) -> None:
        """Before each paid call: make sure that the intent is fresh, and still ours, and was not sent too often."""
        self._tries += 1
        self._check_limit()
        age = (datetime.now(UTC) - self._intent.entry.updated_at).total_seconds()
        if self._tries == 1 and age < min(_FRESH_SECONDS, self._journal.patience_seconds / 12):
            return
        renewed = await self._move(EntryState.INTENT)
        if renewed is None:
            raise SubmissionNotSent(
                "This submission was taken for abandoned while it was tried, and somebody released it. It is not sent.",
            )
        self._intent = renewed

    def _check_limit(self) -> None:
        """Refuse to send again what was answered with 429 too often: each of those may have been accepted and billed.

        Raises:
            StillRateLimited: by this run and all before it, within a day.
        """
        since = datetime.now(UTC) - _LIMITED_WITHIN
        if self._intent.entry.errors_since(since, RateLimited.__name__) >= _MOST_LIMITED:
            raise StillRateLimited(
                f"The submission was answered with 429 {_MOST_LIMITED} times within a day, and is not sent again "
                "before that is over: the service says that it accepted none of them, and if that is not true, each "
                f"was paid for. Look for {self._intent.entry.model_id} requests in RunComfy's dashboard, and ask "
                "RunComfy for its limits; then run fewer at once.",
                generation_key=self._intent.entry.generation_key,
            )

    async def _limited(self, error: RateLimited) -> None:
        """Write down that it was sent and answered with 429: that is counted, over all runs."""
        renewed = await self._move(EntryState.INTENT, error.message, error=error)
        self._intent = renewed or self._intent

    async def _move(self, state: EntryState, reason: str | None = None, **changes: Any) -> Versioned | None:
        """Write the next state of this attempt, even if it was called uncertain meanwhile; `None` if it is over."""
        standing: Versioned | None = self._intent
        conflicts = 0
        while standing is not None:
            entry = standing.entry
            alive = entry.state in (EntryState.INTENT, EntryState.UNCERTAIN)
            if entry.attempt != self._intent.entry.attempt or not alive:
                return None
            moved = entry.moved(state, worker=worker_name(), reason=reason, **changes)
            if written := await self._journal.replace(standing, moved):
                return written
            conflicts = await self._journal.pause_after_conflict(conflicts)
            standing = await self._journal.read(entry.generation_key)
        return None

    async def _record(self, submission: Submission) -> None:
        """Write down the request id, for minutes if need be: it is paid for."""
        self._accepted = submission
        logger.info("Request %s was accepted for generation %s", submission.request_id, submission.generation_key[:12])
        standing: Versioned | None = self._intent
        patience = self._journal.record_seconds
        conflicts = 0
        try:
            while standing is not None:
                entry = standing.entry
                if entry.request_id == submission.request_id:
                    return
                if await self._journal.replace(standing, self._accepted_entry(entry, submission), seconds=patience):
                    return
                conflicts = await self._journal.pause_after_conflict(conflicts)
                standing = await self._journal.read(submission.generation_key, seconds=patience)
        except StorageError as error:
            error.request_id, error.generation_key = submission.request_id, submission.generation_key
            error.message = (
                f"Request {submission.request_id} was accepted, and is probably billed, but the journal could not be "
                f"written: {error.message} When it can be, run `journal adopt {submission.generation_key[:12]} "
                f"{submission.request_id}`."
            )
            raise

    def _accepted_entry(self, entry: Entry, submission: Submission) -> Entry:
        request_id = submission.request_id
        if entry.attempt == self._intent.entry.attempt and entry.may_become(EntryState.SUBMITTED):
            return entry.moved(
                EntryState.SUBMITTED, worker=worker_name(), request_id=request_id, submitted_at=submission.submitted_at
            )
        # A person released it, and another attempt is under way: this request is kept in the history at least.
        reason = f"an earlier attempt, given up for lost, was accepted as {request_id}"
        late = entry.moved(entry.state, worker=worker_name(), reason=reason)
        whose = {"request_id": request_id, "attempt": self._intent.entry.attempt}
        event = late.history[-1].model_copy(update=whose)
        return late.model_copy(update={"history": (*late.history[:-1], event), "reason": entry.reason})

    async def _conclude(self, error: BaseException) -> None:
        """Write down that it was not accepted, or that nobody knows. If that fails, a stale intent says the same."""
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
            key = self._intent.entry.generation_key[:12]
            logger.warning("The journal could not be told that generation %s is %s: %s", key, state, trouble)


async def _submit(
    client: RunComfyClient,
    inputs: ModelInputs,
    *,
    generation_key: str,
    attempts: int = 5,
    authorise: Callable[[], Awaitable[None]] | None = None,
    record: Callable[[Submission], Awaitable[None]] | None = None,
    announce: Callable[[], Awaitable[None]] | None = None,
    limited: Callable[[RateLimited], Awaitable[None]] | None = None,
    within_seconds: float | None = None,
    on_interrupt: Callable[[Submission], Awaitable[None]] | None = None,
    hold: Hold | None = None,
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Submission:
    """Submit `inputs` and return the accepted request.

    Args:
        client: The service to submit to.
        inputs: The checked inputs of one model, with a URL that the service can fetch where it takes an image.
        generation_key: What these inputs are known by; it goes into the submission and into every error.
        attempts: How often to try while the submission is surely not accepted.
        authorise: Awaited right before every attempt, and before `announce`: each may cost money, for one that was
            answered with 429 may have been accepted all the same. If it raises, nothing more is sent, and its error
            comes out unchanged.
        record: Awaited with the accepted request, to its end even if this coroutine is cancelled; an error of it comes
            out unchanged.
        announce: Awaited before every attempt; if it raises, nothing more is sent.
        limited: Awaited with each answer of 429 after which it would be sent again, before the pause.
        within_seconds: How long each call may take, if that is less than the client's `paid_call_seconds`.
        on_interrupt: Awaited with the accepted request if this coroutine was cancelled while the answer was on its way,
            so that a request that is paid for is never forgotten; the cancellation goes on after it.
        hold: What holds a SIGTERM back meanwhile, begun by the caller; it is asked before every attempt.
        sleep: Waits between attempts, in seconds.
        now: The clock, UTC.

    Raises:
        SubmissionNotSent: no attempt left this machine.
        ServiceError: the service refused it for sure, after the last attempt where it is a matter of rate.
        UncertainSubmission: it may be accepted, running and billed; at once, and never tried again here.
    """
    hold = hold or shutdown.hold()
    for attempt in range(1, attempts + 1):
        hold.check()
        if authorise is not None:
            await authorise()
        if announce is not None:
            await announce()
        hold.check()
        sent_at = now()

        async def send(sent_at: datetime = sent_at) -> Submission | RunComfyError:
            outcome = await _send(client, inputs, hold, within_seconds)
            if not isinstance(outcome, str):
                return outcome
            submission = Submission(
                request_id=outcome,
                model_id=inputs.model_id,
                generation_key=generation_key,
                submitted_at=sent_at,
                workload=workload_of(inputs.model_id, inputs.body()),
            )
            if record is not None:
                await record(submission)
            submission_answered("accepted", inputs.model_id)
            return submission

        sent, interrupted = await to_its_end(send())
        if sent.cancelled():  # an event loop that shuts down: nobody knows how far it had come
            outcome: Submission | RunComfyError = UncertainSubmission("This process was stopped while it submitted.")
        else:
            outcome = sent.result()
        if isinstance(outcome, Submission):
            if interrupted is None:
                return outcome
            if on_interrupt is not None:
                await on_interrupt(outcome)
            raise interrupted
        outcome.model_id, outcome.generation_key, outcome.sent_at = inputs.model_id, generation_key, sent_at.isoformat()
        if isinstance(outcome, UncertainSubmission):
            submission_answered("uncertain", inputs.model_id)
            raise _with_advice(outcome)
        if interrupted is not None:
            raise interrupted from outcome
        if not isinstance(outcome, SubmissionNotSent | RateLimited) or attempt == attempts:
            submission_answered("not_sent" if isinstance(outcome, SubmissionNotSent) else "refused", inputs.model_id)
            raise outcome
        retried("submit")
        if limited is not None and isinstance(outcome, RateLimited):
            await limited(outcome)
        # few and far between: each answer of 429 may hide an acceptance
        growth = 4.0 if isinstance(outcome, RateLimited) else 2.0
        await hold.pause(sleep(min(outcome.retry_after_seconds or growth**attempt, _LONGEST_WAIT_SECONDS)))
    raise ValueError("attempts must be at least 1")


async def _send(
    client: RunComfyClient, inputs: ModelInputs, hold: Hold, within_seconds: float | None
) -> str | RunComfyError:
    try:
        return classify_submission(await hold.answer(client.post_submission(inputs, within_seconds=within_seconds)))
    except Unanswered:
        return UncertainSubmission("The process that sent it was told to stop, and it was not answered in time.")
    except _NEVER_SENT as error:
        return SubmissionNotSent(
            f"The submission was not sent: the service could not be reached ({type(error).__name__}). Try again."
        )
    except httpx.HTTPError as error:
        return UncertainSubmission(f"The connection broke before the submission was answered ({type(error).__name__}).")
    except asyncio.CancelledError:  # an event loop that shuts down cancels every task, this one too
        return UncertainSubmission("The process that sent it was stopped before it was answered.")
    except Exception as error:
        # nobody knows how far it had come: some errors of TLS are not wrapped by httpx
        return UncertainSubmission(f"The submission broke off with {type(error).__name__}.")
    # A signal that raises (SystemExit, KeyboardInterrupt, Prefect's TerminationSignal) comes out as it is.


def _with_advice(error: UncertainSubmission) -> UncertainSubmission:
    where = (
        f"Its answer names request {error.request_id}: look at that"
        if error.request_id
        else f"Look for a {error.model_id} request sent at {error.sent_at} in RunComfy's dashboard"
    )
    advice = f"It may be running and billed, so it is not sent again. {where}"
    key = (error.generation_key or "")[:12]
    advised = replace(
        error,
        message=f"{error.message} {advice}, then run `journal adopt {key} REQUEST_ID`, or `journal release {key}` if "
        "there is none.",
    )
    advised.cause = error.message
    return advised
