"""Polling a request: every state, every deadline, every failure, on a clock that the test controls."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runcomfy.api.client import RunComfyClient
from runcomfy.api.rate_limit import Clock
from runcomfy.api.responses import State, parse_answer, parse_state
from runcomfy.errors import (
    AuthenticationError,
    GenerationCancelled,
    GenerationFailed,
    NoOutput,
    PollingFailed,
    QueueTimeout,
    RequestNotFound,
    RunComfyError,
    RunTimeout,
)
from runcomfy.policy import Deadlines, Polling
from runcomfy.polling.poll import Poll, poll_until_done
from runcomfy.values import Result

START = datetime(2026, 11, 21, tzinfo=UTC)
VIDEO = {"video": "https://x.runcomfy.net/a.mp4"}


class World:
    """A service and a clock: at each moment the script says where the request is, and sleeping moves the clock on."""

    def __init__(self, *timeline: tuple[float, Any], result: Any = None, cancel: Any = None) -> None:
        self.seconds = 0.0
        self.calls: list[tuple[float, str]] = []
        self._timeline = timeline
        self._result = result
        self._cancelled = False
        self._cancel = cancel if isinstance(cancel, list) else [cancel or {"outcome": "cancelled"}]
        self.clock = Clock(
            now=lambda: START + timedelta(seconds=self.seconds),
            monotonic=lambda: self.seconds,
            sleep=self._sleep,
            random=lambda: 0.0,
        )

    async def _sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.seconds += seconds

    def _answer(self, scripted: Any) -> httpx.Response:
        if isinstance(scripted, Exception):
            raise scripted
        if isinstance(scripted, httpx.Response):
            return scripted
        return httpx.Response(
            200, json={"request_id": "r1"} | (scripted if isinstance(scripted, dict) else {"status": scripted})
        )

    def handle(self, request: httpx.Request) -> httpx.Response:
        call = request.url.path.rpartition("/")[2]
        self.calls.append((self.seconds, call))
        if call == "cancel":
            said = self._cancel.pop(0) if len(self._cancel) > 1 else self._cancel[0]
            self._cancelled = isinstance(said, dict) and said.get("outcome") == "cancelled"
            return self._answer(said)
        if self._cancelled:
            return self._answer("cancelled")
        if call == "status":
            return self._answer([state for at, state in self._timeline if at <= self.seconds][-1])
        if self._result is not None:
            return self._answer(self._result(self.seconds) if callable(self._result) else self._result)
        state = [state for at, state in self._timeline if at <= self.seconds][-1]
        return self._answer({"status": "succeeded", "output": VIDEO} if state == "completed" else state)

    async def poll(self, **options: Any) -> list[Poll]:
        async with RunComfyClient("token-of-tests", transport=httpx.MockTransport(self.handle)) as client:
            return [poll async for poll in poll_until_done(client, "r1", clock=self.clock, **options)]

    def made(self, call: str) -> list[float]:
        return [at for at, made in self.calls if made == call]


async def test_a_request_is_polled_to_its_result() -> None:
    """Each poll is yielded with its state and position; the last one carries the result and how long it took."""
    world = World((0, {"status": "in_queue", "queue_position": 3}), (20, "in_progress"), (100, "completed"))

    polls = await world.poll(submitted_at=START)

    assert polls[0].queue_position == 3
    assert list(dict.fromkeys(poll.state for poll in polls)) == [State.IN_QUEUE, State.IN_PROGRESS, State.SUCCEEDED]
    result = polls[-1].result
    assert isinstance(result, Result)
    assert (result.output_count, result.polls) == (1, len(world.made("status")))
    assert result.queued_seconds == pytest.approx(20, abs=3)
    assert result.running_seconds == pytest.approx(80, abs=12)


@pytest.mark.parametrize("seconds", [10, 60, 600, 3000])
async def test_a_result_is_noticed_soon_in_few_calls(seconds: float) -> None:
    """With an unknown start, the delay is a twentieth of the time, and the calls grow with its logarithm."""
    world = World((0, "in_progress"), (seconds, "completed"))

    await world.poll()

    assert world.seconds - seconds <= max(2.0, 0.05 * world.seconds) + 1e-6
    assert len(world.made("status")) <= 24 + 21 * math.log(max(seconds / 40, 2))


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ({"status": "failed", "error": {"why": "https://x.y/z?X-Amz-Signature=deadbeef01"}}, GenerationFailed),
        ({"status": "FAILED"}, GenerationFailed),
        ({"status": "canceled"}, GenerationCancelled),
        ({"status": "succeeded", "output": None}, NoOutput),
        ({"status": "succeeded", "output": {}, "input": VIDEO}, NoOutput),
        ({"status": "failed", "error_code": 400002, "error_message": "no"}, GenerationFailed),
        ({"status": "failed", "error_code": 404001, "output": VIDEO}, GenerationFailed),
        ({"status": "cancelled", "error_code": 500000}, GenerationCancelled),
    ],
)
async def test_completed_is_not_success(result: Any, error: type[RunComfyError]) -> None:
    """Only the result says how it ended; the service's reason is kept, without secrets."""
    with pytest.raises(error) as caught:
        await World((0, "completed"), result=result).poll()

    assert caught.value.request_id == "r1"
    assert "deadbeef01" not in f"{caught.value} {caught.value.details}"


@pytest.mark.parametrize("early", ["in_progress", "in_queue", "warming_up", "completed"])
async def test_a_result_that_lags_behind_is_waited_for(early: str) -> None:
    """`completed` with a result that is not there yet means: poll again."""
    world = World((0, "completed"), result=lambda at: early if at < 5 else {"status": "succeeded", "output": VIDEO})

    assert (await world.poll())[-1].result is not None


@pytest.mark.parametrize(
    "said",
    [
        {"status": "completed"},
        {"status": "Completed "},
        {"status": "succeeded", "error_code": 500123, "error_message": "a warning"},
        {"status": "succeeded", "error": {"why": "late"}},
        {"status": "completed", "error_code": 404001},
    ],
)
async def test_a_result_with_a_file_is_a_success(said: dict[str, Any]) -> None:
    """`completed` with a file, as RunComfy's own clients take it, and a success with an error beside it."""
    world = World((0, "completed"), result=said | {"output": VIDEO})

    last = (await world.poll())[-1]

    assert last.result is not None and last.answer is not None
    assert last.answer.outputs == tuple(VIDEO.values())
    assert bool(last.result.warnings) == bool(said.keys() - {"status"})
    assert world.seconds == 0


async def test_completed_without_a_file_is_not_waited_for_indefinitely() -> None:
    """It is "not yet", up to the run deadline."""
    world = World((0, "completed"), result={"status": "completed", "output": {}})

    with pytest.raises(RunTimeout):
        await world.poll(deadlines=Deadlines(run_timeout_seconds=500))
    assert 500 <= world.seconds <= 520


async def test_a_file_that_lags_behind_its_success_is_waited_for() -> None:
    """`succeeded` without a file is asked again a few times; then the error shows what was there, without secrets."""
    early = {"status": "succeeded", "output": {"video": None, "log": "s3://x/?token=deadbeef01"}}
    world = World((0, "completed"), result=lambda at: early if at < 12 else {"status": "succeeded", "output": VIDEO})
    assert (await world.poll())[-1].result is not None

    world = World((0, "completed"), result=early)
    with pytest.raises(NoOutput, match='"video": null') as caught:
        await world.poll()
    assert world.made("result") == [0, 1, 3, 7, 15]
    assert caught.value.details["video"] is None
    assert "deadbeef01" not in f"{caught.value} {caught.value.details}"

    with pytest.raises(NoOutput):  # and not that it may be running
        await World((0, "completed"), result=early).poll(deadlines=Deadlines(run_timeout_seconds=2))


@pytest.mark.parametrize("word", ["warming_up", "finished", "done", None, 7, "expired"])
@pytest.mark.parametrize("error", [None, GenerationFailed, GenerationCancelled])
async def test_an_unknown_word_does_not_hide_the_end(word: object, error: type[RunComfyError] | None) -> None:
    """Whatever the status says, the result is requested, at a sensible rate."""
    end = {None: {"status": "succeeded", "output": VIDEO}, GenerationFailed: "failed"}.get(error, "cancelled")
    world = World((0, {"status": word}), result=lambda at: end if at >= 100 else httpx.Response(404, json={}))

    if error is None:
        assert (await world.poll())[-1].result is not None
    else:
        with pytest.raises(error):
            await world.poll()
    assert world.seconds <= 110
    assert len(world.calls) <= 100


@pytest.mark.parametrize("word", ["success", "done", None, 7])
async def test_an_unknown_word_with_a_file_and_an_end_is_a_success(word: object) -> None:
    """A file alone may be a preview; with the time at which the request finished, nothing more is to come."""
    preview = {"status": word, "output": VIDEO}
    world = World(
        (0, {"status": word}), result=lambda at: preview if at < 50 else preview | {"finished_at": "2026-11-21 12:00"}
    )

    assert (await world.poll())[-1].result is not None
    assert world.seconds >= 50


NOT_THE_SERVICE = [
    httpx.Response(status, **body)
    for status in (400, 401, 403, 404, 410, 451)
    for body in ({"text": "<html>"}, {"json": {}}, {"json": {"message": "Forbidden"}})
]


@pytest.mark.parametrize("answer", NOT_THE_SERVICE, ids=lambda answer: f"{answer.status_code}-{answer.text}")
async def test_a_proxy_that_says_no_says_nothing_about_the_request(answer: httpx.Response) -> None:
    """It is a failed poll: tolerated, and given up within the usual bounds, to be fetched later."""
    world = World(
        (0, answer),
        (30, "completed"),
        result=lambda at: answer if at < 60 else {"status": "succeeded", "output": VIDEO},
    )
    assert (await world.poll(submitted_at=START))[-1].result is not None

    with pytest.raises(PollingFailed, match="fetch it later") as caught:
        await World((0, answer)).poll()
    assert "journal release" not in str(caught.value)


UNKNOWN = httpx.Response(404, json={"error_code": 404001, "error_message": "unknown"})


async def test_a_request_that_a_replica_has_not_heard_of_yet_is_polled() -> None:
    """Only in the first minute after our own submission; otherwise the service is believed."""
    world = World((0, UNKNOWN), (20, "completed"))
    assert (await world.poll(submitted_at=START))[-1].result is not None

    world = World((0, "completed"), result=lambda at: UNKNOWN if at < 20 else {"status": "succeeded", "output": VIDEO})
    assert (await world.poll(submitted_at=START))[-1].result is not None

    for submitted_at, seconds in ((START, 60), (START - timedelta(minutes=2), 0), (None, 0)):
        world = World((0, UNKNOWN))
        with pytest.raises(RequestNotFound):
            await world.poll(submitted_at=submitted_at)
        assert seconds <= world.seconds <= seconds + 31


FAILURES = [
    httpx.Response(500),
    httpx.Response(502, text="<html>"),
    httpx.Response(503, json={"error_code": 503000}),
    httpx.Response(504),
    httpx.Response(408),
    httpx.Response(429, json={"error_message": "slow down"}),
    httpx.Response(200, text="<html>"),
    httpx.ReadError("reset"),
    httpx.ReadTimeout("slow"),
    httpx.ConnectError("down"),
]


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_poll_that_fails_says_nothing_about_the_request(failure: Any) -> None:
    """Failed polls are shown, and polling goes on."""
    world = World((0, "in_progress"), (10, failure), (40, "completed"))

    polls = await world.poll()

    assert any(poll.failure for poll in polls)
    assert polls[-1].result is not None


@pytest.mark.parametrize("failure", FAILURES)
async def test_polls_that_keep_failing_are_given_up(failure: Any) -> None:
    """Within bounds of time and number; the error names the request, to be fetched later."""
    world = World((0, "in_progress"), (10, failure))

    with pytest.raises(PollingFailed, match="fetch it later") as caught:
        await world.poll(polling=Polling(failure_window_seconds=300))
    assert caught.value.request_id == "r1"
    assert 300 <= world.seconds <= 400

    with pytest.raises(PollingFailed):
        await (many := World((0, failure))).poll(polling=Polling(max_failures=4))
    assert len(many.made("status")) == 4


async def test_retry_after_is_honoured() -> None:
    """A service that asks for a pause gets it, within reason."""
    limited = httpx.Response(429, json={"error_message": "no"}, headers={"Retry-After": "100"})
    world = World((0, limited), (50, "completed"))

    await world.poll()

    assert world.made("status") == [0, 100]


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (httpx.Response(401, json={"error_code": 400004}), AuthenticationError),
        (httpx.Response(200, json={"error_code": 404001, "error_message": "expired"}), RequestNotFound),
        (httpx.Response(403, json={"error_code": 403001}), RequestNotFound),
    ],
)
async def test_a_refused_poll_is_not_repeated(refusal: Any, error: type[RunComfyError]) -> None:
    """Waiting does not help against a wrong token or an expired request."""
    world = World((0, refusal))

    with pytest.raises(error):
        await world.poll()
    assert len(world.calls) == 1


async def test_at_the_queue_deadline_the_request_is_cancelled() -> None:
    """The last poll comes right at the deadline, the cancel after it, and the outcome is believed."""
    world = World((0, "in_queue"), cancel={"status": "completed", "outcome": "cancelled"})

    with pytest.raises(QueueTimeout) as caught:
        await world.poll(deadlines=Deadlines(queue_timeout_seconds=100))

    assert caught.value.request_id == "r1"
    assert world.made("cancel") == [pytest.approx(100)]


async def test_the_queue_deadline_counts_from_the_submission() -> None:
    """Polling again after a crash does not give the queue another full time."""
    world = World((0, "in_queue"))

    with pytest.raises(QueueTimeout):
        await world.poll(submitted_at=START - timedelta(seconds=90), deadlines=Deadlines(queue_timeout_seconds=100))
    assert world.seconds == pytest.approx(10)


@pytest.mark.parametrize("hours", [-26, -5, -1, 1, 5, 26])
async def test_the_clock_of_another_machine_does_not_end_the_queue_deadline(hours: int) -> None:
    """A submission from hours ago, or from the future, means a wrong clock: the deadline counts from now."""
    world = World((0, "in_queue"))

    with pytest.raises(QueueTimeout):
        await world.poll(submitted_at=START + timedelta(hours=hours), deadlines=Deadlines(queue_timeout_seconds=3600))
    assert world.seconds == pytest.approx(3600)


async def test_a_request_that_cannot_be_cancelled_is_collected() -> None:
    """`not_cancellable` means that it is running: it gets its run time, and what was paid for is collected."""
    world = World((0, "in_queue"), (130, "completed"), cancel={"outcome": "not_cancellable"})

    polls = await world.poll(deadlines=Deadlines(queue_timeout_seconds=100))

    assert polls[-1].result is not None
    assert len(world.made("cancel")) == 1


@pytest.mark.parametrize(
    "odd",
    [
        {"status": "cancelled"},
        {"outcome": "perhaps"},
        httpx.Response(503),
        httpx.ReadError("x"),
        httpx.Response(409, json={"detail": "no"}),
    ],
)
async def test_a_cancel_that_is_lost_or_answered_oddly_is_repeated(odd: Any) -> None:
    """The request is polled, not forgotten, and cancelled at the next poll."""
    world = World((0, "in_queue"), cancel=[odd, {"outcome": "cancelled"}])

    with pytest.raises(QueueTimeout):
        await world.poll(deadlines=Deadlines(queue_timeout_seconds=100))
    assert len(world.made("cancel")) == 2


@pytest.mark.parametrize("odd", [{"outcome": "perhaps"}, httpx.Response(503), {"outcome": "not_cancellable"}])
async def test_a_request_that_cannot_be_cancelled_is_not_waited_for_indefinitely(odd: Any) -> None:
    """A request that stays in the queue and is never cancelled ends at the run deadline."""
    world = World((0, "in_queue"), cancel=odd)

    with pytest.raises(RunTimeout, match="may be billed"):
        await world.poll(deadlines=Deadlines(queue_timeout_seconds=100, run_timeout_seconds=200))


async def test_the_queue_deadline_holds_while_the_status_is_unavailable() -> None:
    """A request last seen in the queue is cancelled at its deadline although the polls fail."""
    world = World((0, "in_queue"), (50, httpx.Response(503)))

    with pytest.raises(QueueTimeout):
        await world.poll(deadlines=Deadlines(queue_timeout_seconds=100))


@pytest.mark.parametrize("state", ["in_progress", "processing", "IN_PROGRESS"])
async def test_at_the_run_deadline_a_running_request_is_given_up(state: str) -> None:
    """Nothing can stop it: a typed error says that it may be running and billed, and no cancel is sent."""
    world = World((0, "in_queue"), (50, state))

    with pytest.raises(RunTimeout, match="may be billed: fetch it later") as caught:
        await world.poll(deadlines=Deadlines(queue_timeout_seconds=100, run_timeout_seconds=500))

    assert caught.value.request_id == "r1"
    assert 550 <= world.seconds <= 556
    assert not world.made("cancel")


@pytest.mark.parametrize("state", ["warming_up", "queued", None])
async def test_an_unknown_word_is_cancelled_at_the_queue_deadline(state: object) -> None:
    """It may still be in the queue, so it is cancelled, and the outcome of that decides."""
    deadlines = Deadlines(queue_timeout_seconds=100, run_timeout_seconds=500)
    with pytest.raises(QueueTimeout):
        await World((0, "in_queue"), (50, {"status": state})).poll(deadlines=deadlines)

    refused = World((0, "in_queue"), (50, {"status": state}), cancel={"outcome": "not_cancellable"})
    with pytest.raises(RunTimeout):
        await refused.poll(deadlines=deadlines)
    assert 600 <= refused.seconds <= 620


async def test_one_odd_answer_does_not_end_the_queue_deadline() -> None:
    """A request that is seen in the queue again is in the queue."""
    world = World((0, "in_queue"), (20, "in_progress"), (30, {}), (40, "in_queue"))

    with pytest.raises(QueueTimeout):
        await world.poll(deadlines=Deadlines(queue_timeout_seconds=100))


async def test_a_request_that_is_unexpectedly_cancelled_is_reported() -> None:
    """Somebody else may cancel it."""
    with pytest.raises(GenerationCancelled):
        await World((0, "in_queue"), (5, "cancelled"), result="cancelled").poll()


@given(
    st.lists(
        st.tuples(
            st.floats(0, 2000),
            st.sampled_from(["in_queue", "pending", "in_progress", "warming_up", "completed", "cancelled", *FAILURES]),
        ),
        max_size=12,
    ),
    st.sampled_from(["in_progress", "odd", "failed", "cancelled", {"status": "succeeded", "output": VIDEO}, *FAILURES]),
    st.lists(st.sampled_from([{"outcome": "cancelled"}, {"outcome": "not_cancellable"}, {}, *FAILURES]), min_size=1),
)
@settings(max_examples=150)
async def test_polling_always_ends_in_bounded_time_and_calls(timeline: Any, result: Any, cancel: Any) -> None:
    """Whatever the service does, it ends with a result or a typed error, soon after the deadlines together."""
    world = World((0, "in_queue"), *sorted(timeline, key=lambda moment: moment[0]), result=result, cancel=cancel)

    try:
        polls = await world.poll(deadlines=Deadlines(queue_timeout_seconds=300, run_timeout_seconds=500))
    except RunComfyError:
        pass
    else:
        assert polls[-1].result is not None
    assert world.seconds <= 300 + 500 + 10 * 30 + 300
    assert len(world.calls) <= 500


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("IN_QUEUE", State.IN_QUEUE),
        ("pending", State.IN_QUEUE),
        ("Processing", State.IN_PROGRESS),
        ("canceled", State.CANCELLED),
        ("in-progress", State.IN_PROGRESS),
        ("warming_up", State.UNKNOWN),
        (None, State.UNKNOWN),
        (7, State.UNKNOWN),
        (" COMPLETED\n", State.COMPLETED),
        ("InProgress", State.IN_PROGRESS),
        ("in queue", State.IN_QUEUE),
        ("Waiting", State.IN_QUEUE),
        ("starting", State.IN_PROGRESS),
        ("Succeeded", State.SUCCEEDED),
        ("", State.UNKNOWN),
        ("unknown", State.UNKNOWN),
        (["completed"], State.UNKNOWN),
    ],
)
def test_spellings_are_normalised_and_unknown_words_stay_unknown(word: object, state: State) -> None:
    """The spellings that published clients meet are read; nothing else is guessed."""
    assert parse_state(word) is state


@pytest.mark.parametrize("cost", [float("nan"), float("inf"), -1, True, "0.25", None])
def test_a_value_that_is_no_amount_of_money_is_no_cost(cost: Any) -> None:
    """Budgets are computed from costs."""
    assert parse_answer("r1", {"status": "succeeded", "cost": cost}).cost_usd is None
