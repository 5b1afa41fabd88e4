"""Submit a generation: the one call that is paid for.

It is made once. Only what was surely not accepted is tried again: a call that never left this machine, and a call
that the service refused because of its rate. Everything that is not surely refused is `UncertainSubmission`, which
nobody repeats by himself; `classify` is the whole of that decision.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx

from runcomfy._uninterrupted import to_its_end
from runcomfy.client import RunComfyClient
from runcomfy.errors import RateLimited, RunComfyError, SubmissionNotSent, UncertainSubmission
from runcomfy.models import ModelInputs
from runcomfy.refusals import DOCUMENTED_REFUSALS, error_code, json_object, read_refusal, says_no
from runcomfy.run_times import workload_of
from runcomfy.shutdown import Hold, Unanswered, shutdown
from runcomfy.telemetry.metrics import retried, submission_answered
from runcomfy.values import Submission

__all__ = ["classify", "submit"]

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
_LONGEST_WAIT_SECONDS = 120.0
_REQUEST_URL = re.compile(r"/requests/([\w-]{1,200})/(?:status|result|cancel)(?:[?#]|$)")
_NOT_PROCESSED = frozenset({401, 402, 403, 404, 405, 411, 413, 414, 415, 421, 429, 431})
"""By HTTP itself (RFC 9110, 6585) a request that is answered so was not acted on, whoever says it and in what words."""


def classify(response: httpx.Response | httpx.HTTPError) -> str | RunComfyError:
    """Return the request id of an accepted submission, or the error that its answer stands for.

    Refused for sure is what HTTP itself says was not acted on (`_NOT_PROCESSED`), whatever the body; any other 4xx but
    408, which is a time-out, if the service's own error body says so; and a 2xx with one of the documented refusal
    codes, since which HTTP status goes with those is not documented. An answer that names a request is none of these.
    Everything else is uncertain, redirects too: who answers with 303 has done the work.
    """
    if isinstance(response, _NEVER_SENT):
        return SubmissionNotSent(
            f"The submission was not sent: the service could not be reached ({type(response).__name__}). Try again."
        )
    if isinstance(response, httpx.HTTPError):
        return UncertainSubmission(
            f"The connection broke before the submission was answered ({type(response).__name__})."
        )

    body = json_object(response)
    request_id = (body or {}).get("request_id")
    named = isinstance(request_id, str | int) and request_id and request_id is not True
    known = str(request_id).strip() or None if named else None
    refusal = read_refusal(response)
    if response.is_success and refusal is None and known:
        return known
    known = known or _named_by_url(body)
    status = response.status_code
    refused_by_status = status in _NOT_PROCESSED or (400 <= status < 500 and status != 408 and says_no(body))
    refused_by_code = response.is_success and error_code(body) in DOCUMENTED_REFUSALS
    if refusal is not None and not known and (refused_by_status or refused_by_code):
        return refusal
    return UncertainSubmission(
        f"The submission was answered with HTTP {response.status_code} and "
        + ("an error" if refusal is not None and says_no(body) else "nothing that names a request")
        + ".",
        http_status=response.status_code,
        error_code=error_code(body),
        request_id=known,
    )


def _named_by_url(body: dict[str, Any] | None) -> str | None:
    """Return the request that the URLs of an answer lead to, where it names none: it can be asked about at least."""
    for name in ("status_url", "result_url", "cancel_url"):
        url = (body or {}).get(name)
        if isinstance(url, str) and (found := _REQUEST_URL.search(url)):
            return found[1]
    return None


async def submit(
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
        return classify(await hold.answer(client.post_submission(inputs, within_seconds=within_seconds)))
    except Unanswered:
        return UncertainSubmission("The process that sent it was told to stop, and it was not answered in time.")
    except httpx.HTTPError as error:
        return classify(error)
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
