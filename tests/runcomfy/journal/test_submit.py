"""The one call that is paid for: what each answer to it means, and that it is never made twice."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from runcomfy.api.client import RunComfyClient
from runcomfy.api.refusals import retry_after_seconds
from runcomfy.errors import (
    AuthenticationError,
    BudgetReached,
    ConfigurationError,
    InsufficientBalance,
    RateLimited,
    RequestNotFound,
    RequestRejected,
    RunComfyError,
    ServiceError,
    SubmissionNotSent,
    UncertainSubmission,
)
from runcomfy.models import TextToVideo, generation_key
from runcomfy.values import Submission
from tests.runcomfy.journal.making import FailingStore, submit_with_new_journal

ACCEPTED = {"request_id": "r1", "status_url": "x", "result_url": "x", "cancel_url": "x"}
NO = {"error_code": 499999, "error_message": "no"}


class Service:
    """Answers submissions with a script, and counts them."""

    def __init__(self, *answers: httpx.Response | Exception | Callable[[], Any]) -> None:
        self.requests: list[httpx.Request] = []
        self.slept: list[float] = []
        self._answers: Iterator[Any] = iter(answers)

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else await answer()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def submit(self, **options: Any) -> Submission:
        async with RunComfyClient("token-of-tests", transport=httpx.MockTransport(self.handle)) as client:
            return await submit_with_new_journal(client, sleep=self.sleep, **options)


class LateAnswer:
    """An answer that is on its way, once the submission is `sent`, until it has `arrived`."""

    def __init__(self, lost: Exception | None = None) -> None:
        self.sent, self.arrived = asyncio.Event(), asyncio.Event()
        self._lost = lost

    async def __call__(self) -> httpx.Response:
        self.sent.set()
        await self.arrived.wait()
        if self._lost is not None:
            raise self._lost
        return httpx.Response(200, json=ACCEPTED)


async def test_an_accepted_submission_is_returned() -> None:
    """One POST to the model's path with the token and the inputs as flat JSON."""
    service = Service(httpx.Response(200, json=ACCEPTED))

    submission = await service.submit()

    assert (submission.request_id, submission.model_id) == ("r1", "wan-ai/wan-2-1/text-to-video")
    assert datetime.now(UTC) - submission.submitted_at < timedelta(minutes=1)
    (request,) = service.requests
    assert request.url == "https://model-api.runcomfy.net/v1/models/wan-ai/wan-2-1/text-to-video"
    assert request.headers["Authorization"] == "Bearer token-of-tests"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(401, json=NO), AuthenticationError),
        (httpx.Response(402, json=NO), InsufficientBalance),
        (httpx.Response(403, json=NO), AuthenticationError),
        (httpx.Response(404, json=NO), RequestNotFound),
        (httpx.Response(422, json={"detail": "bad"}), RequestRejected),
        (httpx.Response(400, json={"error_code": 400001}), RequestRejected),
        (httpx.Response(400, json={"error_code": 400002}), InsufficientBalance),
        (httpx.Response(400, json={"error_code": "400004"}), AuthenticationError),
        (httpx.Response(200, json={"error_code": 400002}), InsufficientBalance),
        (httpx.Response(200, json={"error_code": 400004, "error_message": "token"}), AuthenticationError),
    ],
)
async def test_a_refusal_is_what_the_service_called_it_and_is_not_repeated(
    answer: httpx.Response, error: type[RunComfyError]
) -> None:
    """A 4xx with an error body, or a documented code whatever the HTTP status, is certainly not accepted."""
    service = Service(answer)

    with pytest.raises(error) as caught:
        await service.submit()

    assert type(caught.value) is error
    assert len(service.requests) == 1


_BODIES = ({"text": "<html>"}, {"json": {}}, {"json": {"Message": "Forbidden"}}, {"json": ["no"]}, {"content": b""})


@pytest.mark.parametrize("body", _BODIES, ids=str)
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AuthenticationError),
        (402, InsufficientBalance),
        (403, AuthenticationError),
        (404, RequestNotFound),
        *((status, RequestRejected) for status in (405, 411, 413, 414, 415, 421, 431)),
    ],
)
async def test_a_status_that_means_not_acted_on_is_a_refusal_whatever_the_body(
    status: int, error: type[RunComfyError], body: dict[str, Any]
) -> None:
    """A proxy that refuses has forwarded nothing; nobody has to check a dashboard for that."""
    service = Service(httpx.Response(status, **body))

    with pytest.raises(error) as caught:
        await service.submit()

    assert type(caught.value) is error
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ReadTimeout("x"),
        httpx.WriteTimeout("x"),
        httpx.ReadError("x"),
        httpx.WriteError("x"),
        httpx.RemoteProtocolError("x"),
        httpx.Response(500, json=NO),
        httpx.Response(502, text="<html>"),
        httpx.Response(503, json={"error_code": 400002}),
        httpx.Response(504),
        httpx.Response(400, text="<html>a proxy's page</html>"),
        httpx.Response(400, json={"Message": "Bad Request"}),
        httpx.Response(400, json={"message": "Bad Request"}),
        httpx.Response(400, json={}),
        httpx.Response(408),
        httpx.Response(408, json=NO),
        httpx.Response(408, json={"error_code": 400002, "error_message": "no balance"}),
        httpx.Response(409),
        httpx.Response(422, text="<html>"),
        httpx.Response(425),
        httpx.Response(451, text="<html>"),
        httpx.Response(499),
        httpx.Response(301, headers={"Location": "https://elsewhere.example.com"}),
        httpx.Response(302, headers={"Location": "https://elsewhere.example.com"}),
        httpx.Response(303, headers={"Location": "https://elsewhere.example.com"}),
        httpx.Response(307, headers={"Location": "https://model-api.runcomfy.net/v2/elsewhere"}),
        httpx.Response(308, headers={"Location": "https://model-api.runcomfy.net/v2/elsewhere"}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={}),
        httpx.Response(200, json={"request_id": ""}),
        httpx.Response(200, json={"request_id": "  "}),
        httpx.Response(200, json={"error_code": 500123, "error_message": "oops"}),
    ],
)
async def test_whatever_is_not_certainly_refused_is_uncertain_and_never_repeated(answer: Any) -> None:
    """One POST, and an error that says when it was sent, for which generation, and what to do."""
    service = Service(answer)

    with pytest.raises(UncertainSubmission, match="may be running and billed") as caught:
        await service.submit()

    assert len(service.requests) == 1
    assert caught.value.generation_key == generation_key(TextToVideo(prompt="rain"))
    assert str(caught.value.sent_at)[:19].replace("T", " ") in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, json=ACCEPTED | {"error_code": 500001}),
        httpx.Response(403, json=ACCEPTED),
        httpx.Response(404, json=NO | {"request_id": "r1"}),
        httpx.Response(429, json=NO | {"request_id": "r1"}),
        httpx.Response(200, json={"status_url": "https://model-api.runcomfy.net/v1/requests/r1/status"}),
        httpx.Response(202, json={"request_id": " ", "cancel_url": "https://other.example/v2/requests/r1/cancel?x=1"}),
        httpx.Response(502, json={"result_url": "/v1/requests/r1/result"}),
    ],
)
async def test_an_odd_answer_that_names_a_request_keeps_its_id(answer: httpx.Response) -> None:
    """What carries an error beside a request id, or names the request in its URLs only, is uncertain; no id is lost."""
    service = Service(answer)

    with pytest.raises(UncertainSubmission, match="Look for request r1 in") as caught:
        await service.submit()

    assert caught.value.request_id == "r1"
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    "trouble", [httpx.ConnectError("x"), httpx.ConnectTimeout("x"), httpx.PoolTimeout("x"), httpx.ProxyError("x")]
)
async def test_a_call_that_never_left_this_machine_is_sent_again(trouble: Exception) -> None:
    """A failed connection is tried again, with growing pauses, and then given up."""
    service = Service(trouble, trouble, httpx.Response(200, json=ACCEPTED))
    assert (await service.submit()).request_id == "r1"
    assert service.slept == [2.0, 4.0]

    service = Service(*[trouble] * 5)
    with pytest.raises(SubmissionNotSent):
        await service.submit()
    assert len(service.requests) == 5


@pytest.mark.parametrize("body", [{"json": NO}, {"text": "<html>slow down</html>"}, {}])
async def test_a_rate_limit_is_waited_out(body: dict[str, Any]) -> None:
    """A 429 is a refusal, the service's or a proxy's: `Retry-After` is followed, and the pauses grow."""
    limited = httpx.Response(429, headers={"Retry-After": "7"}, **body)
    service = Service(limited, httpx.Response(429, **body), httpx.Response(200, json=ACCEPTED))

    assert (await service.submit()).request_id == "r1"
    assert service.slept == [7.0, 16.0]


async def test_a_rate_limit_that_stays_is_an_error() -> None:
    """After the last attempt the refusal itself is raised."""
    service = Service(*[httpx.Response(429, json=NO)] * 2)

    with pytest.raises(RateLimited):
        await service.submit(attempts=2)


async def test_each_send_is_authorised_before_it_is_announced() -> None:
    """A 429 may lie, so the money for its answer is no longer free when the next one is sent.

    The intent announces it, and its lease is renewed unless it is recent; each answer of 429 is recorded as well.
    """
    journal_store = FailingStore()

    async def authorise() -> None:
        journal_store.calls.append("authorise")
        if journal_store.calls.count("authorise") == 3:
            raise BudgetReached("no more")

    async def limited() -> httpx.Response:
        journal_store.calls.append("send")
        return httpx.Response(429, json=NO)

    service = Service(*[limited] * 5)
    with pytest.raises(BudgetReached):
        await service.submit(authorise=authorise, journal_store=journal_store, lease_seconds=0.0)

    sent = ["authorise", "replace", "send", "replace"]
    assert journal_store.calls == ["read", "check", "create", *sent, *sent, "authorise", "replace"]
    assert len(service.requests) == 2


async def test_a_cancellation_while_the_answer_is_on_its_way_loses_nothing() -> None:
    """The answer is waited for, the accepted request handed over, and the cancellation goes on."""
    slow = LateAnswer()
    handed_over: list[Submission] = []

    async def take(submission: Submission) -> None:
        handed_over.append(submission)

    service = Service(slow)
    run = asyncio.ensure_future(service.submit(on_interrupt=take))
    await slow.sent.wait()
    run.cancel()
    asyncio.get_running_loop().call_later(0.05, slow.arrived.set)

    with pytest.raises(asyncio.CancelledError):
        await run
    assert [submission.request_id for submission in handed_over] == ["r1"]


async def test_a_cancellation_before_an_uncertain_answer_does_not_hide_it() -> None:
    """Perhaps paid for outweighs being cancelled."""
    lost = LateAnswer(httpx.ReadError("x"))
    service = Service(lost)
    run = asyncio.ensure_future(service.submit())
    await lost.sent.wait()
    run.cancel()
    asyncio.get_running_loop().call_later(0.05, lost.arrived.set)

    with pytest.raises(UncertainSubmission):
        await run


async def test_neither_a_second_cancellation_nor_the_end_of_the_loop_loses_a_paid_request() -> None:
    """Cancelled again and again, the answer is still waited for; a loop that shuts down makes it uncertain."""
    slow = LateAnswer()
    handed_over: list[Submission] = []

    async def take(submission: Submission) -> None:
        handed_over.append(submission)

    run = asyncio.ensure_future(Service(slow).submit(on_interrupt=take))
    await slow.sent.wait()
    for _ in range(3):
        run.cancel()
        await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.05, slow.arrived.set)
    with pytest.raises(asyncio.CancelledError):
        await run
    assert [submission.request_id for submission in handed_over] == ["r1"]

    slow = LateAnswer()
    run = asyncio.ensure_future(Service(slow).submit(on_interrupt=take))
    await slow.sent.wait()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    with pytest.raises(UncertainSubmission):
        await run


async def test_a_token_that_the_service_quotes_does_not_get_into_the_error() -> None:
    """The service's words are shown without our own token in them, and no request hangs on the error."""
    service = Service(httpx.Response(401, json={"error_message": "invalid token s3cr3t-t0k3n"}), httpx.ReadError("x"))
    async with RunComfyClient("s3cr3t-t0k3n", transport=httpx.MockTransport(service.handle)) as client:
        for _ in range(2):
            with pytest.raises(ServiceError) as caught:
                await client.status("r1")
            assert "s3cr3t" not in f"{caught.value} {caught.value.facts}"
            assert caught.value.__context__ is None


@pytest.mark.parametrize("token", ["", "  ", "7", "7c9e1f0", "a token with blanks", "two\nlines-of-it", "tökentöken"])
def test_a_token_that_cannot_be_sent_is_refused_without_showing_it(token: str) -> None:
    """A header must hold it, and it must not be a word of the answers that it is cut out of; it is not repeated."""
    with pytest.raises(ConfigurationError) as caught:
        RunComfyClient(token)

    assert not token.strip() or token not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["http://example.com", "ftp://example.com", "example.com", "https://u:p@example.com", "https://[", "https://a:b"],
)
def test_the_token_is_not_sent_in_clear(url: str) -> None:
    """The base URL is https, or on this machine."""
    with pytest.raises(ConfigurationError):
        RunComfyClient("token-of-tests", base_url=url)
    assert RunComfyClient("token-of-tests", base_url="http://127.0.0.1:1").base_url


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2020 07:28:30 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("²", None),
        ("", None),
    ],
)
def test_retry_after_is_read_in_both_its_forms(value: str, seconds: float | None) -> None:
    """Seconds or an HTTP date, never negative; nonsense is as if it were not there."""
    response = httpx.Response(429, headers=[(b"Retry-After", value.encode("latin-1"))])

    assert retry_after_seconds(response, datetime(2026, 10, 21, 7, 28, tzinfo=UTC)) == seconds
