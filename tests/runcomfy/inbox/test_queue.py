"""The queue, over the wire."""

from __future__ import annotations

import asyncio
import socket

import boto3
import pytest

from runcomfy.errors import ConfigurationError, StorageError, StoreUnavailable
from runcomfy.inbox.queue import Queue
from tests.runcomfy.inbox.cloud import Cloud


@pytest.fixture
def queue(cloud: Cloud) -> Queue:
    return Queue(cloud.queue(), session=cloud.session(), visibility_timeout_seconds=2)


async def test_a_received_message_is_hidden_until_it_is_deleted(cloud: Cloud, queue: Queue) -> None:
    """At most ten are received at once, and no other worker gets them in the meantime."""
    cloud.send(queue.url, map(str, range(12)))

    messages = await queue.receive(50)

    assert len(messages) == 10
    assert cloud.count(queue.url) == (2, 10)
    await asyncio.gather(*map(queue.delete, messages))
    assert cloud.count(queue.url) == (2, 0)
    assert len(await queue.receive(1)) == 1


async def test_a_message_that_is_not_deleted_comes_back(cloud: Cloud, queue: Queue) -> None:
    """After the visibility timeout; and it says how often it was received."""
    cloud.send(queue.url, ["one"])

    (first,) = await queue.receive(10)
    assert await queue.receive(10) == []
    (again,) = await queue.receive(10, wait_seconds=4)

    assert (first.id, first.receives, again.id, again.receives) == (again.id, 1, first.id, 2)
    assert again.receipt != first.receipt


async def test_it_can_be_kept_hidden(cloud: Cloud, queue: Queue) -> None:
    """Each extension hides it for some more time, also for more than ten at once."""
    cloud.send(queue.url, map(str, range(11)))
    messages = await queue.receive(10) + await queue.receive(10)

    for _ in range(3):
        await asyncio.sleep(1)
        assert await queue.extend(messages) == []

    assert cloud.count(queue.url) == (0, 11)


async def test_it_can_be_given_back(cloud: Cloud, queue: Queue) -> None:
    """At once, or after a while."""
    cloud.send(queue.url, ["one"])
    (message,) = await queue.receive(10)

    await queue.give_back(message)
    (message,) = await queue.receive(10)
    await queue.give_back(message, after_seconds=1)

    assert await queue.receive(10) == []
    assert len(await queue.receive(10, wait_seconds=3)) == 1


async def test_a_lost_message_is_named(cloud: Cloud, queue: Queue) -> None:
    """A message that was deleted in the meantime cannot be extended; the others can."""
    cloud.send(queue.url, ["one", "two"])
    messages = await queue.receive(10)
    await queue.delete(messages[0])

    assert await queue.extend(messages) == [messages[0]]


async def test_a_queue_that_does_not_exist_is_a_wrong_setting(cloud: Cloud) -> None:
    """The error names the queue."""
    queue = Queue(f"{cloud.endpoint_url}/123456789012/nowhere", session=cloud.session())

    with pytest.raises(ConfigurationError, match=r"nowhere.*no such queue"):
        await queue.receive(1)


@pytest.mark.parametrize("url", ["", "arrivals", "sqs://q", "https://", "https://host/", "https://user:pw@host/1/q"])
def test_a_url_that_is_not_a_queues_is_refused(url: str) -> None:
    """Before any call; a password in it is not repeated."""
    with pytest.raises(ConfigurationError, match="URL") as refused:
        Queue(url, session=boto3.Session())
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize("seconds", [0, 43_201])
def test_a_timeout_outside_the_bounds_of_sqs_is_refused(cloud: Cloud, seconds: int) -> None:
    """One second to twelve hours."""
    with pytest.raises(ConfigurationError, match="43200"):
        Queue(cloud.queue(), session=cloud.session(), visibility_timeout_seconds=seconds)


@pytest.mark.slow
async def test_an_unreachable_server_may_be_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed connection may be temporary."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    queue = Queue(f"http://127.0.0.1:{port}/1/q", session=boto3.Session("k", "s", region_name="us-east-1"))

    with pytest.raises(StoreUnavailable, match="no connection") as refused:
        await queue.receive(1)
    assert refused.value.retryable


async def test_without_credentials_there_is_no_call(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    """The error says so."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")

    with pytest.raises(StorageError, match="credentials"):
        await Queue(cloud.queue(), session=boto3.Session(region_name="us-east-1")).receive(1)


@pytest.mark.parametrize(
    ("url", "endpoint", "region"),
    [
        ("https://sqs.eu-central-1.amazonaws.com/1/q", "https://sqs.eu-central-1.amazonaws.com", "eu-central-1"),
        ("https://sqs.us-gov-west-1.amazonaws.com/1/q", "https://sqs.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("https://eu-west-1.queue.amazonaws.com/1/q", "https://eu-west-1.queue.amazonaws.com", "eu-west-1"),
        ("https://vpce-0a1b-2.sqs.us-east-2.vpce.amazonaws.com/1/q",
         "https://vpce-0a1b-2.sqs.us-east-2.vpce.amazonaws.com", "us-east-2"),
        ("http://localhost:9324/queue/q", "http://localhost:9324", "ap-south-1"),
    ],
)  # fmt: skip
def test_calls_go_where_the_url_says(url: str, endpoint: str, region: str) -> None:
    """The host is the URL's, and so is the region, where there is one in it; else it is the session's."""
    queue = Queue(url, session=boto3.Session("k", "s", region_name="ap-south-1"))

    assert (queue._client.meta.endpoint_url, queue._client.meta.region_name) == (endpoint, region)
