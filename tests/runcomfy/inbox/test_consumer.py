"""Working off a queue: bounded, hidden while it goes on, given back where it does not."""

from __future__ import annotations

import asyncio

import pytest

from runcomfy.errors import ConfigurationError
from runcomfy.inbox.consumer import InFlightMessage, take
from runcomfy.inbox.queue import Queue
from tests.runcomfy.inbox.cloud import Cloud


@pytest.fixture
def queue(cloud: Cloud) -> Queue:
    return Queue(cloud.queue(), session=cloud.session(), hidden_seconds=4)


async def test_a_burst_is_smoothed(cloud: Cloud, queue: Queue) -> None:
    """No more are taken than there are slots; the others stay in the queue, and all are done at the end."""
    cloud.send(queue.url, map(str, range(40)))
    done: list[str] = []
    at_work, most, least_waiting = 0, 0, 40

    async def work(held: InFlightMessage) -> None:
        nonlocal at_work, most, least_waiting
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.1)
        if not done:
            least_waiting = cloud.count(queue.url)[0]
        at_work -= 1
        done.append(held.body)
        await held.done()

    await take(queue, work, at_once=7, idle_seconds=0, run_for_seconds=60)

    assert sorted(done, key=int) == [str(number) for number in range(40)]
    assert (most, least_waiting) == (7, 33)
    assert cloud.count(queue.url) == (0, 0)


async def test_long_work_is_kept_hidden(cloud: Cloud, queue: Queue) -> None:
    """Longer than a message is hidden for: it comes to nobody else, and not again."""
    cloud.send(queue.url, ["slow"])
    seen = []

    async def work(held: InFlightMessage) -> None:
        seen.append(held.id)
        await asyncio.sleep(9)
        assert cloud.count(queue.url) == (0, 1)
        await held.done()

    await take(queue, work, at_once=5, idle_seconds=0, run_for_seconds=60)

    assert len(seen) == 1
    assert cloud.count(queue.url) == (0, 0)


async def test_work_goes_on_after_its_message_is_deleted(cloud: Cloud, queue: Queue) -> None:
    """The slot stays taken, and the run waits for it."""
    cloud.send(queue.url, ["a", "b"])
    ended = []

    async def work(held: InFlightMessage) -> None:
        await held.done()
        assert held.settled
        await asyncio.sleep(0.5)
        ended.append(held.body)

    await take(queue, work, at_once=1, idle_seconds=0, run_for_seconds=60)

    assert sorted(ended) == ["a", "b"]


async def test_what_is_not_settled_is_given_back(cloud: Cloud, queue: Queue) -> None:
    """Hidden for half a minute first, so that it does not spin."""
    cloud.send(queue.url, ["a"])

    async def work(held: InFlightMessage) -> None:
        return

    await take(queue, work, at_once=3, idle_seconds=0, run_for_seconds=60)
    await asyncio.sleep(5)

    assert cloud.count(queue.url) == (0, 1)


async def test_an_error_nobody_thought_of_comes_out_after_the_others_are_done(cloud: Cloud, queue: Queue) -> None:
    """No more are taken then, and its message is not lost."""
    cloud.send(queue.url, map(str, range(10)))
    done = []

    async def work(held: InFlightMessage) -> None:
        if held.body == "0":
            raise ZeroDivisionError
        await asyncio.sleep(0.3)
        await held.done()
        done.append(held.body)

    with pytest.raises(ZeroDivisionError):
        await take(queue, work, at_once=2, idle_seconds=0, run_for_seconds=60)

    assert done
    assert sum(cloud.count(queue.url)) == 10 - len(done)


async def test_it_waits_for_more_and_ends_when_none_comes(cloud: Cloud, queue: Queue) -> None:
    """What comes within the idle time is taken."""

    async def work(held: InFlightMessage) -> None:
        done.append(held.body)
        await held.done()

    done: list[str] = []
    taking = asyncio.create_task(take(queue, work, at_once=3, idle_seconds=5, run_for_seconds=60))
    await asyncio.sleep(1)
    cloud.send(queue.url, ["late"])
    await taking

    assert done == ["late"]


async def test_when_its_time_is_over_it_finishes_what_it_has(cloud: Cloud, queue: Queue) -> None:
    """And takes no more."""
    cloud.send(queue.url, map(str, range(20)))
    done = []

    async def work(held: InFlightMessage) -> None:
        await asyncio.sleep(1.5)
        await held.done()
        done.append(held.body)

    await take(queue, work, at_once=2, idle_seconds=60, run_for_seconds=1)

    assert (len(done), cloud.count(queue.url)) == (2, (18, 0))


async def test_it_stops_taking_when_that_is_said(cloud: Cloud, queue: Queue) -> None:
    """Where something is wrong for all, the rest is left where it is, and not counted as received."""
    cloud.send(queue.url, map(str, range(20)))
    seen = []

    async def work(held: InFlightMessage) -> None:
        seen.append(held.body)

    await take(queue, work, at_once=2, idle_seconds=60, run_for_seconds=60, enough=lambda: bool(seen))

    assert len(seen) == 2
    assert cloud.count(queue.url) == (18, 2)


async def test_a_cancellation_ends_all_work(cloud: Cloud, queue: Queue) -> None:
    """What was held comes back when it is not hidden any more, though a receiving call is still under way."""
    cloud.send(queue.url, ["a"])
    begun, ends = asyncio.Event(), []

    async def work(held: InFlightMessage) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    taking = asyncio.create_task(take(queue, work, at_once=2, idle_seconds=60, run_for_seconds=60))
    await begun.wait()
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking

    assert ends == ["cancelled"]
    async with asyncio.timeout(60):
        while cloud.count(queue.url) != (1, 0):  # noqa: ASYNC110 - only the queue knows
            await asyncio.sleep(0.2)


async def test_a_queue_that_is_not_there_is_told_at_once(cloud: Cloud) -> None:
    """It is not asked again for minutes."""
    queue = Queue(f"{cloud.endpoint_url}/123456789012/nowhere", session=cloud.session())

    async def work(held: InFlightMessage) -> None: ...

    with pytest.raises(ConfigurationError, match="no such queue"):
        await take(queue, work, at_once=2, idle_seconds=60, run_for_seconds=60)
