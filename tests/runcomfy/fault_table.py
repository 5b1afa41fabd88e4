"""Each endpoint with each fault of the sandbox: the required outcome. Plain data, read by test_fault_table.py.

The expectations come from what is known of the API and from the definitions of the errors, not from running the code:

- a submission is surely refused by a 4xx with an error body, and by a documented code; a rate limit is waited for;
  everything else is uncertain, and is sent once;
- a poll of the status or the result that fails for a transient reason says nothing about the request;
- a permanent refusal ends the polling, and the request goes on;
- a cancel may be repeated, its outcome is trusted, and what cannot be cancelled is given up at the run deadline;
- a file is whole or it is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from runcomfy.errors import (
    AuthenticationError,
    DownloadError,
    GenerationCancelled,
    GenerationFailed,
    HostNotAllowed,
    InsufficientBalance,
    NoOutput,
    NotFinished,
    PollingFailed,
    QueueTimeout,
    RateLimited,
    RequestNotFound,
    RequestRejected,
    RunComfyError,
    RunTimeout,
    ServiceUnavailable,
    UncertainSubmission,
    UnexpectedContent,
)

__all__ = ["ARCHIVED", "ENDLESS", "EXCLUDED", "TABLE", "Case", "Line"]

ARCHIVED = "archived"
Outcome = type[RunComfyError] | str


class Line(NamedTuple):
    """Some faults at one endpoint, and the outcome of each: when it strikes once, and when it strikes at every call.

    `None` means that this case is on another line, or makes no sense: a fault of scope `request` stays with its request
    anyway, and is under `once`.
    """

    endpoint: str
    faults: str
    once: Outcome | None = None
    always: Outcome | None = None
    accepted: int = 1
    """How many submissions the service accepts, and charges."""
    sent: int = 1
    """How many submissions reach the service."""
    files: int = 1
    """How many files are archived, where any is."""
    scenario: str = "run"
    """What else happens: `run` (nothing), `held` (it stays in the queue), `stuck` (it never ends), `cancelled` (by
    someone, in the queue), `collect` (the fault comes after the waiting), `large` (a file of 9 MB and more)."""
    parameters: Mapping[str, Any] = {}


class Case(NamedTuple):
    """One row of the table: one fault at one endpoint, once or always."""

    endpoint: str
    fault: str
    always: bool
    outcome: Outcome
    line: Line

    @property
    def name(self) -> str:
        """What the test is called."""
        said = [f"{name}={value}" for name, value in self.line.parameters.items() if name != "location"]
        said += ["elsewhere"] * ("location" in self.line.parameters)
        words = [self.endpoint, self.fault, "always" if self.always else "once", *said]
        return "-".join(words + [self.line.scenario] * (self.line.scenario != "run"))


BEFORE, AFTER = {"after": False}, {"after": True}
ENDLESS, A_LITTLE = {"seconds": 3600.0}, {"seconds": 0.05}
NEAR_THE_END = {"fraction": 0.99}
ELSEWHERE = {"location": "https://elsewhere.example/video.mp4?Signature=5ec2e7"}

_NOT_JSON = "html not_json redirect"
_BROKEN = "http_408 http_500 http_502 http_503 http_504"
_CUT_OFF = "reset closed lost_answer"
_TRANSIENT = f"{_BROKEN} http_429 {_NOT_JSON} {_CUT_OFF}"
_REJECTED = "http_400 http_409 http_422 error_400001"
_LAGS = "http_404 error_404001"
_UNKNOWN = f"error_403001 {_LAGS}"
_TOKEN = "http_401 http_403 error_400004"
_MONEY = "http_402 error_400002 error_in_200"
_REFUSED = f"{_REJECTED} {_UNKNOWN} {_TOKEN} {_MONEY}"


def _refusals(endpoint: str, *, lags: bool = False, **facts: Any) -> tuple[Line, ...]:
    """Return the outcomes of refusals; with `lags`, an unknown request may be due to a replica that lags."""
    return (
        Line(endpoint, _REJECTED, RequestRejected, RequestRejected, **facts),
        Line(endpoint, _LAGS, ARCHIVED if lags else RequestNotFound, RequestNotFound, **facts),
        Line(endpoint, "error_403001", RequestNotFound, RequestNotFound, **facts),
        Line(endpoint, _TOKEN, AuthenticationError, AuthenticationError, **facts),
        Line(endpoint, _MONEY, InsufficientBalance, InsufficientBalance, **facts),
    )


_UNCERTAIN = f"http_500 http_502 http_503 http_504 {_NOT_JSON} {_CUT_OFF}"


def _proxy(
    endpoint: str, statuses: tuple[int, ...], once: Outcome, always: Outcome | None, **facts: Any
) -> Iterator[Line]:
    """A proxy refuses, in its own words."""
    first = {"http_status": statuses[0], "body": "message"}
    parameters = facts.pop("parameters", {})
    yield Line(endpoint, "proxy", None, always, parameters=parameters | first, **facts)
    for number, status in enumerate(statuses):
        body = ("html", "object", "message", "none")[number % 4]
        yield Line(endpoint, "proxy", once, parameters=parameters | {"http_status": status, "body": body}, **facts)


_SUBMIT = (
    *_proxy("submit", (403, 401), AuthenticationError, AuthenticationError, accepted=0, parameters=BEFORE),
    *_proxy("submit", (402,), InsufficientBalance, None, accepted=0, parameters=BEFORE),
    *_proxy("submit", (404,), RequestNotFound, None, accepted=0, parameters=BEFORE),
    *_proxy("submit", (405, 411, 413, 414, 415, 421, 431), RequestRejected, None, accepted=0, parameters=BEFORE),
    *_proxy("submit", (429,), ARCHIVED, None, sent=2, parameters=BEFORE),
    *_proxy(
        "submit",
        (400, 408, 409, 410, 422, 451),
        UncertainSubmission,
        UncertainSubmission,
        accepted=0,
        parameters=BEFORE,
    ),
    *_proxy("submit", (403,), AuthenticationError, AuthenticationError, parameters=AFTER),
    *_proxy("submit", (408,), UncertainSubmission, UncertainSubmission, parameters=AFTER),
    *_refusals("submit", accepted=0, parameters=BEFORE),
    Line("submit", "http_408", UncertainSubmission, UncertainSubmission, accepted=0, parameters=BEFORE),
    Line("submit", "http_429", once=ARCHIVED, sent=2, parameters=BEFORE),
    Line("submit", "http_429", always=RateLimited, accepted=0, sent=3, parameters=BEFORE),
    Line("submit", _UNCERTAIN, UncertainSubmission, UncertainSubmission, accepted=0, parameters=BEFORE),
    Line("submit", _UNCERTAIN, UncertainSubmission, UncertainSubmission, accepted=1, parameters=AFTER),
    Line("submit", "slow", UncertainSubmission, UncertainSubmission, accepted=0, parameters=BEFORE | ENDLESS),
    Line("submit", "slow", UncertainSubmission, UncertainSubmission, accepted=1, parameters=AFTER | ENDLESS),
    Line("submit", "slow", ARCHIVED, ARCHIVED, parameters=AFTER | A_LITTLE),
    Line("submit", "no_request_id", UncertainSubmission, UncertainSubmission),
    # No client can notice a service that accepts but says that it refuses. Even so, it is paid once.
    *_refusals("submit", parameters=AFTER),
    Line("submit", "http_408", UncertainSubmission, UncertainSubmission, parameters=AFTER),
)

_STATUS = (
    *_refusals("status", lags=True),
    *_proxy("status", (403, 401, 404, 400, 410), ARCHIVED, PollingFailed),
    Line("status", "waiting starting blanks unknown_end", ARCHIVED),
    Line("status", "waiting blanks", QueueTimeout, scenario="held"),
    Line("status", _TRANSIENT, ARCHIVED, PollingFailed),
    Line("status", "slow", ARCHIVED, PollingFailed, parameters=ENDLESS),
    Line("status", "expired", RequestNotFound),
    Line("status", "no_queue_position canceled pending processing warming_up upper_case", ARCHIVED),
    Line("status", "no_queue_position pending upper_case stuck_in_queue", QueueTimeout, scenario="held"),
    Line("status", "processing warming_up upper_case stuck_running", RunTimeout, scenario="stuck"),
    Line("status", "canceled upper_case", GenerationCancelled, scenario="cancelled"),
)

_RESULT = (
    *_refusals("result", lags=True),
    *_proxy("result", (404, 403, 401, 400, 410), ARCHIVED, PollingFailed),
    *_proxy("result", (404, 403), ARCHIVED, ServiceUnavailable, scenario="collect"),
    Line("result", "waiting starting blanks", ARCHIVED),
    Line("result", "completed_result succeeded_with_error", ARCHIVED),
    Line("result", "failed_with_code", GenerationFailed),
    Line("result", "completed_early", ARCHIVED, RunTimeout),
    Line("result", "completed_early", NotFinished, NotFinished, scenario="collect"),
    Line("result", "output_late", ARCHIVED, NoOutput),
    Line("result", "output_late", ARCHIVED, NoOutput, scenario="collect"),
    Line(
        "result",
        "audio audios url path nested object_list unknown_names page_beside in_a_text json_text odd_url",
        ARCHIVED,
    ),
    Line("result", "echo_in_output echo_under_odd_name", ARCHIVED),
    Line("result", "only_an_echo no_url_in_output", NoOutput),
    Line("result", _TRANSIENT, ARCHIVED, PollingFailed),
    Line("result", "slow", ARCHIVED, PollingFailed, parameters=ENDLESS),
    Line("result", "expired", RequestNotFound),
    Line("result", "canceled pending processing warming_up upper_case", ARCHIVED),
    Line("result", "canceled upper_case", GenerationCancelled, scenario="cancelled"),
    Line("result", "failed error_echoes_url", GenerationFailed),
    Line("result", "result_lags", ARCHIVED, RunTimeout),
    Line("result", "no_output null_output", NoOutput),
    Line("result", "bare_url url_list videos images echoes_inputs", ARCHIVED),
    Line("result", "several_files", ARCHIVED, files=3),
    Line("result", "cost_late", ARCHIVED, ARCHIVED),
    # When fresh URLs are requested, to archive the files.
    *_refusals("result", scenario="collect"),
    Line("result", f"{_BROKEN} {_NOT_JSON} {_CUT_OFF}", ARCHIVED, ServiceUnavailable, scenario="collect"),
    Line("result", "http_429", ARCHIVED, RateLimited, scenario="collect"),
    Line("result", "result_lags", NotFinished, NotFinished, scenario="collect"),
)

_CANCEL = (
    *_proxy("cancel", (404, 403), QueueTimeout, RunTimeout, scenario="held"),
    Line("cancel", "waiting starting blanks", QueueTimeout, scenario="held"),
    # A cancel that was lost or refused is repeated; the polls show its outcome.
    Line("cancel", f"{_REFUSED} {_TRANSIENT}", once=QueueTimeout, scenario="held"),
    Line("cancel", f"{_REFUSED} {_BROKEN} http_429 html redirect reset closed", always=RunTimeout, scenario="held"),
    # These did cancel it, although they did not say so.
    Line("cancel", "not_json lost_answer", always=QueueTimeout, scenario="held"),
    Line("cancel", "slow", QueueTimeout, QueueTimeout, scenario="held", parameters=ENDLESS),
    Line("cancel", "no_outcome cancel_says_completed", QueueTimeout, QueueTimeout, scenario="held"),
    # The outcome is trusted: someone else cancelled it.
    Line("cancel", "cancel_lies", GenerationCancelled, GenerationCancelled, scenario="held"),
    Line("cancel", "expired", RunTimeout, scenario="held"),
    Line("cancel", "canceled pending processing warming_up upper_case", QueueTimeout, scenario="held"),
)

_OUTPUT = (
    Line("output", "http_400 http_401 http_402 http_403 http_404 http_409 http_422", ARCHIVED, DownloadError),
    Line("output", f"http_429 {_BROKEN} redirect reset closed", ARCHIVED, DownloadError),
    Line("output", "redirect", HostNotAllowed, HostNotAllowed, parameters=ELSEWHERE),
    Line("output", "truncated reset_halfway", ARCHIVED, DownloadError),
    Line("output", "stall", ARCHIVED, DownloadError, parameters=A_LITTLE),
    Line("output", "html silent_cut empty", ARCHIVED, UnexpectedContent),
    # What is damaged is read once more, and kept if it is the same again: its host announced no more than came.
    Line("output", "wrong_length damaged glued packed remuxed changed", ARCHIVED, ARCHIVED),
    # Whole files that are no good: kept, with a verdict.
    Line("output", "black frozen blurred damaged_after silent clipped wrong_size still", ARCHIVED),
    Line("output", "silent_cut", ARCHIVED, UnexpectedContent, parameters={"framing": "close"}),
    Line("output", "slow", ARCHIVED, ARCHIVED, parameters=A_LITTLE),
    Line("output", "octet_stream", ARCHIVED, ARCHIVED),
    # The same for a large file.
    Line("output", "truncated reset_halfway", ARCHIVED, DownloadError, scenario="large", parameters=NEAR_THE_END),
    Line("output", "silent_cut", ARCHIVED, UnexpectedContent, scenario="large", parameters=NEAR_THE_END),
    Line("output", "wrong_length", ARCHIVED, ARCHIVED, scenario="large", parameters=NEAR_THE_END),
)

_BALANCE = (
    *_proxy("balance", (403, 401), AuthenticationError, AuthenticationError, accepted=0, sent=0),
    *_refusals("balance", accepted=0, sent=0),
    Line("balance", "http_429", RateLimited, RateLimited, accepted=0, sent=0),
    Line("balance", f"{_BROKEN} {_NOT_JSON} {_CUT_OFF}", ServiceUnavailable, ServiceUnavailable, accepted=0, sent=0),
    Line("balance", "slow", ServiceUnavailable, ServiceUnavailable, accepted=0, sent=0, parameters=ENDLESS),
)

EXCLUDED: Mapping[str, str] = {
    "catalogue": "We never call it.",
    "submit http_429 after": (
        "No client can notice a service that accepts, charges, and asks for another try. How often it can be paid for "
        "is limited, over all runs: test_odd_answers.py."
    ),
}
"""What is not in the table: an endpoint, or `endpoint fault after`; and why."""


def _cases() -> Iterator[Case]:
    for line in (*_SUBMIT, *_STATUS, *_RESULT, *_CANCEL, *_OUTPUT, *_BALANCE):
        for fault in line.faults.split():
            for always, outcome in ((False, line.once), (True, line.always)):
                if outcome is not None:
                    yield Case(line.endpoint, fault, always, outcome, line)


TABLE = tuple(_cases())
