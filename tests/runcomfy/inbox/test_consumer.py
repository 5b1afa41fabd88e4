"""Consuming a queue: bounded; a message stays hidden during its work, and is given back if it is not done."""

from __future__ import annotations

import asyncio

import pytest

from runcomfy.errors import ConfigurationError
from runcomfy.inbox.consumer import InFlightMessage, consume
from runcomfy.inbox.queue import Queue
from tests.runcomfy.inbox.cloud import Cloud


@pytest.fixture
def queue(cloud: Cloud) -> Queue:
    return Queue(cloud.queue(), session=cloud.session(), visibility_timeout_seconds=4)


async def test_a_burst_is_smoothed(cloud: Cloud, queue: Queue) -> None:
    """No more are received than there are slots; the others stay in the queue, and all are done at the end."""
    cloud.send(queue.url, map(str, range(40)))
    done: list[str] = []
    at_work, most, least_waiting = 0, 0, 40

    async def work(message: InFlightMessage) -> None:
        nonlocal at_work, most, least_waiting
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.1)
        if not done:
            least_waiting = cloud.count(queue.url)[0]
        at_work -= 1
        done.append(message.body)
        await message.delete()

    await consume(queue, work, at_once=7, idle_seconds=0, run_for_seconds=60)

    assert sorted(done, key=int) == [str(number) for number in range(40)]
    assert (most, least_waiting) == (7, 33)
    assert cloud.count(queue.url) == (0, 0)


@pytest.mark.slow
async def test_long_work_is_kept_hidden(cloud: Cloud, queue: Queue) -> None:
    """Longer than the visibility timeout: no other worker gets it, and it does not come again."""
    cloud.send(queue.url, ["slow"])
    seen = []

    async def work(message: InFlightMessage) -> None:
        seen.append(message.id)
        await asyncio.sleep(9)
        assert cloud.count(queue.url) == (0, 1)
        await message.delete()

    await consume(queue, work, at_once=5, idle_seconds=0, run_for_seconds=60)

    assert len(seen) == 1
    assert cloud.count(queue.url) == (0, 0)


async def test_work_goes_on_after_its_message_is_deleted(cloud: Cloud, queue: Queue) -> None:
    """The slot stays taken, and the run waits for it."""
    cloud.send(queue.url, ["a", "b"])
    ended = []

    async def work(message: InFlightMessage) -> None:
        await message.delete()
        assert message.settled
        await asyncio.sleep(0.5)
        ended.append(message.body)

    await consume(queue, work, at_once=1, idle_seconds=0, run_for_seconds=60)

    assert sorted(ended) == ["a", "b"]


async def test_a_message_that_is_not_done_is_given_back(cloud: Cloud, queue: Queue) -> None:
    """Hidden for half a minute first, to avoid a busy loop."""
    cloud.send(queue.url, ["a"])

    async def work(message: InFlightMessage) -> None:
        return

    await consume(queue, work, at_once=3, idle_seconds=0, run_for_seconds=60)
    await asyncio.sleep(5)

    assert cloud.count(queue.url) == (0, 1)


async def test_an_unexpected_error_is_raised_after_the_others_are_done(cloud: Cloud, queue: Queue) -> None:
    """No more are received then, and its message is not lost."""
    cloud.send(queue.url, map(str, range(10)))
    done = []

    async def work(message: InFlightMessage) -> None:
        if message.body == "0":
            raise ZeroDivisionError
        await asyncio.sleep(0.3)
        await message.delete()
        done.append(message.body)

    with pytest.raises(ZeroDivisionError):
        await consume(queue, work, at_once=2, idle_seconds=0, run_for_seconds=60)

    assert done
    assert sum(cloud.count(queue.url)) == 10 - len(done)


async def test_it_waits_for_more_and_ends_when_none_comes(cloud: Cloud, queue: Queue) -> None:
    """What arrives within the idle time is received."""

    async def work(message: InFlightMessage) -> None:
        done.append(message.body)
        await message.delete()

    done: list[str] = []
    consuming = asyncio.create_task(consume(queue, work, at_once=3, idle_seconds=5, run_for_seconds=60))
    await asyncio.sleep(1)
    cloud.send(queue.url, ["late"])
    await consuming

    assert done == ["late"]


async def test_when_its_time_is_over_it_finishes_what_it_has(cloud: Cloud, queue: Queue) -> None:
    """And receives no more."""
    cloud.send(queue.url, map(str, range(20)))
    done = []

    async def work(message: InFlightMessage) -> None:
        await asyncio.sleep(1.5)
        await message.delete()
        done.append(message.body)

    await consume(queue, work, at_once=2, idle_seconds=60, run_for_seconds=1)

    assert (len(done), cloud.count(queue.url)) == (2, (18, 0))


async def test_it_stops_receiving_when_the_work_says_stop(cloud: Cloud, queue: Queue) -> None:
    """If something is wrong for all, the rest is left where it is, and not counted as received."""
    cloud.send(queue.url, map(str, range(20)))
    seen = []

    async def work(message: InFlightMessage) -> None:
        seen.append(message.body)

    await consume(queue, work, at_once=2, idle_seconds=60, run_for_seconds=60, enough=lambda: bool(seen))

    assert len(seen) == 2
    assert cloud.count(queue.url) == (18, 2)


async def test_a_cancellation_ends_all_work(cloud: Cloud, queue: Queue) -> None:
    """Messages in flight come back after the visibility timeout, though a receiving call is still under way."""
    cloud.send(queue.url, ["a"])
    begun, ends = asyncio.Event(), []

    async def work(message: InFlightMessage) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    consuming = asyncio.create_task(consume(queue, work, at_once=2, idle_seconds=60, run_for_seconds=60))
    await begun.wait()
    consuming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consuming

    assert ends == ["cancelled"]
    async with asyncio.timeout(60):
        while cloud.count(queue.url) != (1, 0):  # noqa: ASYNC110 - only the queue knows
            await asyncio.sleep(0.2)


async def test_a_queue_that_does_not_exist_is_an_error_at_once(cloud: Cloud) -> None:
    """It is not retried for minutes."""
    queue = Queue(f"{cloud.endpoint_url}/123456789012/nowhere", session=cloud.session())

    async def work(message: InFlightMessage) -> None: ...

    with pytest.raises(ConfigurationError, match="no such queue"):
        await consume(queue, work, at_once=2, idle_seconds=60, run_for_seconds=60)
