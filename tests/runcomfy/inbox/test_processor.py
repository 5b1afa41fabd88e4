"""One image from its arrival to its end: when its message goes, and what is done only once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from urllib.parse import quote_plus

import pytest

from runcomfy.errors import RunComfyError
from runcomfy.inbox.consumer import consume
from runcomfy.inbox.images import Source
from runcomfy.inbox.processor import Generate, ImageProcessor, Received
from runcomfy.inbox.queue import Queue
from runcomfy.models.orders import Order
from runcomfy.storage.store import Store
from runcomfy.values import Outcome, OutcomeStatus, StagedFile
from tests.runcomfy.inbox.cloud import Cloud, painted

Accepted = Callable[[], Awaitable[None]]


@pytest.fixture
def queue(cloud: Cloud) -> Queue:
    return Queue(cloud.queue(), session=cloud.session(), visibility_timeout_seconds=30)


def put(archive: Store, number: int) -> str:
    archive.put(f"in/{number}.png", painted(number), content_type="image/png", metadata={"prompt": f"rain {number}"})
    return f"in/{number}.png"


def notice(archive: Store, *keys: str) -> str:
    records = [
        {
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": archive.bucket}, "object": {"key": quote_plus(key)}},
        }
        for key in keys
    ]
    return json.dumps({"Records": records})


def processor(archive: Store, generate: Generate, *, at_once: int = 8) -> ImageProcessor:
    source = Source(f"s3://{archive.bucket}/in", archive)
    return ImageProcessor(source, archive, {"prompt": ""}, generate, at_once=at_once)


def statuses(received: ImageProcessor) -> list[OutcomeStatus]:
    return [one.fate for one in received.received.values()]


async def archived(order: Order, staged: tuple[StagedFile, ...], label: str, accepted: Accepted) -> Outcome:
    """A stand-in for a service without faults."""
    await accepted()
    await asyncio.sleep(0.05)
    return Outcome(label=label, status=OutcomeStatus.ARCHIVED, generation_key=staged[0].sha256, uris=("s3://b/k.mp4",))


def ending(status: OutcomeStatus, error: str, kind: str, *, accept: bool = False) -> Generate:
    async def generate(order: Order, staged: tuple[StagedFile, ...], label: str, accepted: Accepted) -> Outcome:
        if accept:
            await accepted()
        return Outcome(label=label, status=status, error=error, error_type=kind)

    return generate


async def work_off(queue: Queue, to: ImageProcessor) -> None:
    await consume(
        queue, to.process_message, at_once=8, idle_seconds=0, run_for_seconds=60, enough=lambda: bool(to.blocked)
    )


async def test_a_message_of_several_images_goes_when_all_are_safe(cloud: Cloud, archive: Store, queue: Queue) -> None:
    """Not when the first one is."""
    keys, counts = [put(archive, number) for number in range(3)], []

    async def generate(order: Order, staged: tuple[StagedFile, ...], label: str, accepted: Accepted) -> Outcome:
        await asyncio.sleep(0.3 * int(order.prompt[-1]))
        counts.append(cloud.count(queue.url))
        return await archived(order, staged, label, accepted)

    cloud.send(queue.url, [notice(archive, *keys)])
    receiving = processor(archive, generate)
    await work_off(queue, receiving)

    assert counts == [(0, 1)] * 3
    assert statuses(receiving) == [OutcomeStatus.ARCHIVED] * 3
    assert cloud.count(queue.url) == (0, 0)


@pytest.mark.parametrize(
    ("generate", "status", "left"),
    [
        (archived, OutcomeStatus.ARCHIVED, 0),
        (ending(OutcomeStatus.REFUSED, "no seed", "InvalidInput"), OutcomeStatus.SET_ASIDE, 0),
        (ending(OutcomeStatus.REFUSED, "no", "RequestRejected"), OutcomeStatus.SET_ASIDE, 0),
        (ending(OutcomeStatus.REFUSED, "busy", "SubmissionNotSent"), OutcomeStatus.POSTPONED, 1),
        (ending(OutcomeStatus.REFUSED, "poor", "InsufficientBalance"), OutcomeStatus.POSTPONED, 1),
        (ending(OutcomeStatus.NOT_STARTED, "no store", "StoreUnavailable"), OutcomeStatus.POSTPONED, 1),
        (ending(OutcomeStatus.UNCERTAIN, "lost", "UncertainSubmission"), OutcomeStatus.OPEN, 1),
        (ending(OutcomeStatus.DETACHED, "slow", "RunTimeout", accept=True), OutcomeStatus.OPEN, 0),
        (ending(OutcomeStatus.CANCELLED, "queue", "QueueTimeout", accept=True), OutcomeStatus.CANCELLED, 0),
        (ending(OutcomeStatus.FAILED, "failed", "GenerationFailed", accept=True), OutcomeStatus.SET_ASIDE, 0),
    ],
)
async def test_a_message_stays_until_it_is_safe(
    cloud: Cloud, archive: Store, queue: Queue, generate: Generate, status: OutcomeStatus, left: int
) -> None:
    """In the journal, or set aside; any other message comes back."""
    cloud.send(queue.url, [notice(archive, put(archive, 1))])

    receiving = processor(archive, generate)
    await work_off(queue, receiving)

    assert (statuses(receiving), cloud.count(queue.url)) == ([status], (0, left))


async def test_the_same_image_at_the_same_time_is_processed_once(cloud: Cloud, archive: Store, queue: Queue) -> None:
    """However many messages are about it."""
    calls = []

    async def generate(order: Order, staged: tuple[StagedFile, ...], label: str, accepted: Accepted) -> Outcome:
        calls.append(label)
        return await archived(order, staged, label, accepted)

    cloud.send(queue.url, [notice(archive, put(archive, 1))] * 6)
    receiving = processor(archive, generate)
    await work_off(queue, receiving)

    assert (len(calls), statuses(receiving)) == (1, [OutcomeStatus.ARCHIVED])
    assert cloud.count(queue.url) == (0, 0)


async def test_a_store_that_fails_leaves_the_message(cloud: Cloud, archive: Store, queue: Queue) -> None:
    """And it is reported; nothing is set aside."""
    cloud.send(queue.url, [notice(archive, put(archive, 1))])
    lost = Store("no-such-bucket", session=cloud.session(), endpoint_url=cloud.endpoint_url)
    source = Source(f"s3://{archive.bucket}/in", lost)
    receiving = ImageProcessor(source, lost, {"prompt": "fog"}, archived, at_once=2)

    await work_off(queue, receiving)

    (one,) = receiving.received.values()
    assert one.fate is OutcomeStatus.POSTPONED and "no-such-bucket" in str(one.reason)
    assert cloud.count(queue.url) == (0, 1)


async def test_a_listing_ends_with_its_time(archive: Store) -> None:
    """Images that were not begun are reported, and processed the next time."""
    for number in range(6):
        put(archive, number)

    async def slow(order: Order, staged: tuple[StagedFile, ...], label: str, accepted: Accepted) -> Outcome:
        await asyncio.sleep(1)
        return await archived(order, staged, label, accepted)

    first = processor(archive, slow, at_once=2)
    await first.process_new(run_for_seconds=0.9)
    second = processor(archive, archived)
    await second.process_new(run_for_seconds=60)

    assert sorted(statuses(first)) == [OutcomeStatus.ARCHIVED] * 2 + [OutcomeStatus.POSTPONED] * 4
    assert statuses(second) == [OutcomeStatus.ARCHIVED] * 4


async def test_a_listing_stops_where_something_is_wrong_for_all(archive: Store) -> None:
    """Without balance, the others are not tried one by one."""
    for number in range(6):
        put(archive, number)
    receiving = processor(archive, ending(OutcomeStatus.REFUSED, "no balance", "InsufficientBalance"), at_once=1)

    await receiving.process_new(run_for_seconds=60)

    assert [one.reason for one in receiving.received.values()] == ["no balance"] * 6
    assert receiving.blocked == "no balance"


async def test_an_unexpected_error_does_not_stop_the_others(archive: Store) -> None:
    """It is raised when they are done."""
    for number in range(4):
        put(archive, number)

    async def generate(order: Order, staged: tuple[StagedFile, ...], label: str, accepted: Accepted) -> Outcome:
        if order.prompt == "rain 0":
            raise RunComfyError("who thought of that?")
        return await archived(order, staged, label, accepted)

    reported: list[Received] = []
    receiving = ImageProcessor(
        Source(f"s3://{archive.bucket}/in", archive),
        archive,
        {"prompt": ""},
        generate,
        at_once=8,
        on_received=reported.append,
    )
    with pytest.raises(RunComfyError, match="thought"):
        await receiving.process_new(run_for_seconds=60)

    assert statuses(receiving) == [OutcomeStatus.ARCHIVED] * 3 == [one.fate for one in reported]
