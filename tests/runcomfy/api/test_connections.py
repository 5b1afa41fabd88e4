"""How the client manages its connections, against the sandbox over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import httpx
import pytest

from runcomfy.api.client import PAID_CALL_SECONDS, RunComfyClient
from runcomfy.errors import ServiceUnavailable, SubmissionNotSent, UncertainSubmission
from runcomfy.sandbox import Sandbox
from tests.runcomfy.journal.making import submit_with_new_journal


@pytest.fixture
def client(sandbox: Sandbox) -> RunComfyClient:
    return RunComfyClient(sandbox.token, base_url=sandbox.url)


async def submitted(client: RunComfyClient) -> str:
    return (await submit_with_new_journal(client)).request_id


async def test_a_thousand_polls_at_once_share_a_hundred_connections(sandbox: Sandbox, client: RunComfyClient) -> None:
    """All are answered, none fails while it waits for a connection, and the service is not flooded."""
    async with client:
        request_id = await submitted(client)
        before = sandbox.books().connections
        statuses = await asyncio.gather(*(client.status(request_id) for _ in range(1000)))

    assert {status.request_id for status in statuses} == {request_id}
    assert sandbox.books().connections - before <= 100


async def test_polls_one_after_the_other_use_one_connection(sandbox: Sandbox, client: RunComfyClient) -> None:
    """Also after a pause that is longer than a connection of the paid call is kept."""
    async with client:
        request_id = await submitted(client)
        before = sandbox.books().connections
        for pause in (0.0, 0.0, 1.2):
            await asyncio.sleep(pause)
            await client.status(request_id)

    assert sandbox.books().connections - before == 1


async def test_an_idle_connection_is_not_trusted_with_the_paid_call(sandbox: Sandbox, client: RunComfyClient) -> None:
    """The service may close it just when the call is sent, and the outcome would be unknown."""
    async with client:
        for _ in range(60):  # until two come within the second that a connection is kept, however busy the machine is
            began = time.monotonic()
            await submitted(client)
            at_first = sandbox.books().connections
            await submitted(client)
            at_once = sandbox.books().connections
            if time.monotonic() - began < 0.9:
                break
        await asyncio.sleep(1.2)
        await submitted(client)

    assert (at_first, at_once, sandbox.books().connections) == (at_first, at_first, at_first + 1)


async def test_polls_do_not_share_a_connection_with_the_paid_call(sandbox: Sandbox, client: RunComfyClient) -> None:
    """What breaks a poll does not break a submission."""
    async with client:
        request_id = await submitted(client)
        before = sandbox.books().connections
        await client.status(request_id)

    assert sandbox.books().connections == before + 1


class Halting:
    """A service that keeps every caller waiting until it is released."""

    def __init__(self) -> None:
        self.calls = 0
        self.released = asyncio.Event()

    async def called(self, times: int) -> None:
        """Wait until so many callers wait."""
        async with asyncio.timeout(120):
            while self.calls < times:  # noqa: ASYNC110 - it is counted in passing
                await asyncio.sleep(0.01)

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        await self.released.wait()
        return httpx.Response(200, json={"request_id": f"r-{self.calls}", "status": "in_progress"})


@dataclass
class RawService:
    """A server on a raw socket that accepts everything, and answers slowly."""

    answers_after_seconds: float
    pieces: int = 1

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            body = b'{"request_id": "r-1"}'
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n" % (len(body)))
            for _ in range(self.pieces):
                await asyncio.sleep(self.answers_after_seconds)
                writer.write(b"X-Slow: 1\r\n")
                await writer.drain()
            writer.write(b"\r\n" + body)
            await writer.drain()
        writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self.answer, "127.0.0.1", 0) as server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def settled(awaitables: list[Awaitable[object]]) -> list[object]:
    return list(await asyncio.gather(*awaitables, return_exceptions=True))


@pytest.mark.slow
async def test_a_submission_that_waits_too_long_for_a_connection_was_certainly_not_sent() -> None:
    """It is not an uncertain submission: the service has never seen it."""
    service = Halting()
    async with RunComfyClient(
        "token-of-tests", transport=httpx.MockTransport(service.handle), timeout_seconds=0.2
    ) as client:
        first = [asyncio.create_task(submitted(client)) for _ in range(100)]
        await service.called(100)
        with pytest.raises(SubmissionNotSent, match="too many calls at once"):
            await submit_with_new_journal(client, attempts=1)
        seen = service.calls
        service.released.set()
        ids = await asyncio.gather(*first)

    assert (seen, len(ids)) == (100, 100)


async def test_an_answer_to_the_paid_call_that_comes_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """For more than four times as long as a poll may take, but not indefinitely."""
    assert RunComfyClient("token-of-tests").paid_call_seconds == PAID_CALL_SECONDS == 120
    raw = RawService(answers_after_seconds=0.4)
    async with raw.running() as url:
        async with RunComfyClient("token-of-tests", base_url=url, timeout_seconds=0.1) as client:
            assert (await submitted(client)) == "r-1"
            with pytest.raises(ServiceUnavailable):
                await client.status("r")
        async with RunComfyClient("token-of-tests", base_url=url, paid_call_seconds=0.2) as client:
            with pytest.raises(UncertainSubmission):
                await submitted(client)
        monkeypatch.setattr("runcomfy.journal.submit._SHORTEST_CALL_SECONDS", 0.1)
        async with RunComfyClient("token-of-tests", base_url=url) as client:
            with pytest.raises(UncertainSubmission):
                await submit_with_new_journal(client, lease_seconds=0.3)  # two thirds of it are for the call


async def test_an_answer_that_trickles_does_not_outlast_the_paid_call() -> None:
    """Each piece comes in time, but the whole would outlast the lease in the journal."""
    raw = RawService(answers_after_seconds=0.02, pieces=1000)
    async with (
        raw.running() as url,
        RunComfyClient("token-of-tests", base_url=url, paid_call_seconds=0.3) as client,
    ):
        with pytest.raises(UncertainSubmission):
            await submitted(client)


async def test_a_poll_waits_for_a_connection_as_long_as_it_takes() -> None:
    """Waiting for our own connections says nothing about the service: the poll has not failed."""
    service = Halting()
    async with RunComfyClient(
        "token-of-tests", transport=httpx.MockTransport(service.handle), timeout_seconds=0.1
    ) as client:
        polls = [asyncio.create_task(client.status("r")) for _ in range(150)]
        await service.called(100)
        await asyncio.sleep(0.4)
        seen = service.calls
        service.released.set()
        states = await settled([*polls])

    assert seen == 100
    assert not [state for state in states if isinstance(state, BaseException)]


@pytest.mark.parametrize("turns", range(80))
async def test_a_call_may_be_given_up_at_any_moment(sandbox: Sandbox, turns: int) -> None:
    """While it connects, sends or waits: the next call is answered, on a working connection."""
    async with RunComfyClient(sandbox.token, base_url=sandbox.url, timeout_seconds=5) as client:
        call = asyncio.create_task(client.balance_usd())
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await settled([call])

        assert await client.balance_usd()


async def test_a_call_that_is_given_up_frees_its_slot(sandbox: Sandbox, client: RunComfyClient) -> None:
    """However many are cancelled, the next ones are answered."""
    async with client:
        request_id = await submitted(client)
        sandbox.inject("slow", endpoint="status", rate=1.0, seconds=5.0)
        given_up = [asyncio.create_task(client.status(request_id)) for _ in range(200)]
        await asyncio.sleep(0.3)
        for call in given_up:
            call.cancel()
        await settled([*given_up])
        sandbox.clear_faults()

        assert (await client.status(request_id)).request_id == request_id


async def test_a_connection_that_broke_is_replaced(sandbox: Sandbox, client: RunComfyClient) -> None:
    """One poll fails, and the next one works."""
    async with client:
        request_id = await submitted(client)
        sandbox.inject("reset", endpoint="status", times=1)
        with pytest.raises(ServiceUnavailable):
            await client.status(request_id)

        assert (await client.status(request_id)).request_id == request_id
