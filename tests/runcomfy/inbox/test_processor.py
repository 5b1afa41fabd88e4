"""One picture from its arrival to its end: when its message goes, and what is done only once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from urllib.parse import quote_plus

import pytest

from runcomfy.errors import RunComfyError
from runcomfy.inbox.consumer import take
from runcomfy.inbox.images import Source
from runcomfy.inbox.processor import Disposition, Generate, ImageProcessor, Received
from runcomfy.inbox.queue import Queue
from runcomfy.models.orders import Order
from runcomfy.storage.store import Store
from runcomfy.values import Outcome, OutcomeStatus, StagedImage
from tests.runcomfy.inbox.cloud import Cloud, painted

Accepted = Callable[[], Awaitable[None]]


@pytest.fixture
def queue(cloud: Cloud) -> Queue:
    return Queue(cloud.queue(), session=cloud.session(), hidden_seconds=30)


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


def reception(archive: Store, generate: Generate, *, at_once: int = 8) -> ImageProcessor:
    source = Source(f"s3://{archive.bucket}/in", archive)
    return ImageProcessor(source, archive, {"prompt": ""}, generate, at_once=at_once)


def fates(received: ImageProcessor) -> list[Disposition]:
    return [one.fate for one in received.received.values()]


async def archived(order: Order, image: StagedImage, label: str, accepted: Accepted) -> Outcome:
    """Stands for the service at its best."""
    await accepted()
    await asyncio.sleep(0.05)
    return Outcome(label=label, status=OutcomeStatus.ARCHIVED, generation_key=image.sha256, uris=("s3://b/k.mp4",))


def ending(status: OutcomeStatus, error: str, kind: str, *, accept: bool = False) -> Generate:
    async def generate(order: Order, image: StagedImage, label: str, accepted: Accepted) -> Outcome:
        if accept:
            await accepted()
        return Outcome(label=label, status=status, error=error, error_type=kind)

    return generate


async def work_off(queue: Queue, to: ImageProcessor) -> None:
    await take(queue, to.take_message, at_once=8, idle_seconds=0, run_for_seconds=60, enough=lambda: bool(to.blocked))


async def test_a_message_of_several_pictures_goes_when_all_are_safe(cloud: Cloud, archive: Store, queue: Queue) -> None:
    """Not when the first one is."""
    keys, counts = [put(archive, number) for number in range(3)], []

    async def generate(order: Order, image: StagedImage, label: str, accepted: Accepted) -> Outcome:
        await asyncio.sleep(0.3 * int(order.prompt[-1]))
        counts.append(cloud.count(queue.url))
        return await archived(order, image, label, accepted)

    cloud.send(queue.url, [notice(archive, *keys)])
    receiving = reception(archive, generate)
    await work_off(queue, receiving)

    assert counts == [(0, 1)] * 3
    assert fates(receiving) == [Disposition.ARCHIVED] * 3
    assert cloud.count(queue.url) == (0, 0)


@pytest.mark.parametrize(
    ("generate", "fate", "left"),
    [
        (archived, Disposition.ARCHIVED, 0),
        (ending(OutcomeStatus.REFUSED, "no seed", "InvalidInput"), Disposition.SET_ASIDE, 0),
        (ending(OutcomeStatus.REFUSED, "no", "RequestRejected"), Disposition.SET_ASIDE, 0),
        (ending(OutcomeStatus.REFUSED, "busy", "SubmissionNotSent"), Disposition.POSTPONED, 1),
        (ending(OutcomeStatus.REFUSED, "poor", "InsufficientBalance"), Disposition.POSTPONED, 1),
        (ending(OutcomeStatus.NOT_STARTED, "no store", "StoreUnavailable"), Disposition.POSTPONED, 1),
        (ending(OutcomeStatus.UNCERTAIN, "lost", "UncertainSubmission"), Disposition.OPEN, 1),
        (ending(OutcomeStatus.DETACHED, "slow", "RunTimeout", accept=True), Disposition.OPEN, 0),
        (ending(OutcomeStatus.CANCELLED, "queue", "QueueTimeout", accept=True), Disposition.CANCELLED, 0),
        (ending(OutcomeStatus.FAILED, "failed", "GenerationFailed", accept=True), Disposition.SET_ASIDE, 0),
    ],
)
async def test_a_message_stays_until_it_is_safe(
    cloud: Cloud, archive: Store, queue: Queue, generate: Generate, fate: Disposition, left: int
) -> None:
    """In the journal, or set aside for good; what is neither comes back."""
    cloud.send(queue.url, [notice(archive, put(archive, 1))])

    receiving = reception(archive, generate)
    await work_off(queue, receiving)

    assert (fates(receiving), cloud.count(queue.url)) == ([fate], (0, left))


async def test_the_same_picture_at_the_same_time_is_taken_up_once(cloud: Cloud, archive: Store, queue: Queue) -> None:
    """However many messages tell of it."""
    calls = []

    async def generate(order: Order, image: StagedImage, label: str, accepted: Accepted) -> Outcome:
        calls.append(label)
        return await archived(order, image, label, accepted)

    cloud.send(queue.url, [notice(archive, put(archive, 1))] * 6)
    receiving = reception(archive, generate)
    await work_off(queue, receiving)

    assert (len(calls), fates(receiving)) == (1, [Disposition.ARCHIVED])
    assert cloud.count(queue.url) == (0, 0)


async def test_a_store_that_fails_leaves_the_message(cloud: Cloud, archive: Store, queue: Queue) -> None:
    """And it is said; nothing is set aside for it."""
    cloud.send(queue.url, [notice(archive, put(archive, 1))])
    lost = Store("no-such-bucket", session=cloud.session(), endpoint_url=cloud.endpoint_url)
    source = Source(f"s3://{archive.bucket}/in", lost)
    receiving = ImageProcessor(source, lost, {"prompt": "fog"}, archived, at_once=2)

    await work_off(queue, receiving)

    (one,) = receiving.received.values()
    assert one.fate is Disposition.POSTPONED and "no-such-bucket" in str(one.reason)
    assert cloud.count(queue.url) == (0, 1)


async def test_a_listing_ends_with_its_time(archive: Store) -> None:
    """What was not taken up is said, and is there the next time."""
    for number in range(6):
        put(archive, number)

    async def slow(order: Order, image: StagedImage, label: str, accepted: Accepted) -> Outcome:
        await asyncio.sleep(1)
        return await archived(order, image, label, accepted)

    first = reception(archive, slow, at_once=2)
    await first.take_new(run_for_seconds=0.9)
    second = reception(archive, archived)
    await second.take_new(run_for_seconds=60)

    assert sorted(fates(first)) == [Disposition.ARCHIVED] * 2 + [Disposition.POSTPONED] * 4
    assert fates(second) == [Disposition.ARCHIVED] * 4


async def test_a_listing_stops_where_something_is_wrong_for_all(archive: Store) -> None:
    """Without balance, the others are not tried one by one."""
    for number in range(6):
        put(archive, number)
    receiving = reception(archive, ending(OutcomeStatus.REFUSED, "no balance", "InsufficientBalance"), at_once=1)

    await receiving.take_new(run_for_seconds=60)

    assert [one.reason for one in receiving.received.values()] == ["no balance"] * 6
    assert receiving.blocked == "no balance"


async def test_an_error_nobody_thought_of_does_not_stop_the_others(archive: Store) -> None:
    """It comes out when they are done."""
    for number in range(4):
        put(archive, number)

    async def generate(order: Order, image: StagedImage, label: str, accepted: Accepted) -> Outcome:
        if order.prompt == "rain 0":
            raise RunComfyError("who thought of that?")
        return await archived(order, image, label, accepted)

    told: list[Received] = []
    receiving = ImageProcessor(
        Source(f"s3://{archive.bucket}/in", archive), archive, {"prompt": ""}, generate, at_once=8, tell=told.append
    )
    with pytest.raises(RunComfyError, match="thought"):
        await receiving.take_new(run_for_seconds=60)

    assert fates(receiving) == [Disposition.ARCHIVED] * 3 == [one.fate for one in told]
