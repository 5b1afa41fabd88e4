"""A queue of messages at SQS, or at a server that speaks it: receive, extend, delete, give back.

boto3 blocks, so each call runs in a thread of this module's pool: in asyncio's, it would queue behind images.
"""

from __future__ import annotations

import asyncio
import functools
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError, SSLError

from runcomfy.errors import ConfigurationError, StorageError, StoreUnavailable
from runcomfy.redaction import redact_loggers
from runcomfy.storage.credentials import credential_trouble
from runcomfy.storage.s3 import refusal

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

__all__ = ["Message", "Queue"]

_T = TypeVar("_T")
_THREADS = ThreadPoolExecutor(8, thread_name_prefix="inbox-queue")
_MOST_AT_ONCE = 10  # SQS's own bound for a call
_MAX_VISIBILITY_TIMEOUT_SECONDS = 12 * 3600
_REGION = re.compile(r"(?:^|\.)([a-z]{2}(?:-[a-z]+){1,3}-\d+)\.")
_WRONG_CREDENTIALS = (
    "AccessDenied", "AccessDeniedException", "ExpiredToken", "InvalidClientTokenId", "InvalidSecurity",
    "MissingAuthenticationToken", "SignatureDoesNotMatch", "UnrecognizedClientException",
)  # fmt: skip


@dataclass(frozen=True)
class Message:
    """A message that was received, and is hidden from other workers for a while."""

    id: str
    body: str
    receipt: str
    """SQS's handle of this delivery, for deleting and hiding."""
    receives: int
    """How often it was received, this time included."""


class Queue:
    """A queue, by its URL.

    Args:
        url: As SQS gives it: `https://sqs.eu-central-1.amazonaws.com/123456789012/arrivals`. Its scheme and host are
            where the calls go, on other servers too.
        session: Credentials; and the region, where the URL names none. Not used after construction.
        visibility_timeout_seconds: How long a received message stays hidden unless that is extended: the messages of a
            killed worker come back after that.
        verify: False, or a file of certificates, for servers with certificates of their own.

    Raises:
        ConfigurationError: the URL is not that of a queue.
        StorageError: there are no usable credentials.
    """

    def __init__(
        self, url: str, *, session: boto3.Session, visibility_timeout_seconds: int = 120, verify: bool | str = True
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path.strip("/") or "@" in url:
            raise ConfigurationError(
                "A queue is named by its URL, such as https://sqs.eu-central-1.amazonaws.com/123456789012/arrivals."
            )
        if not 1 <= visibility_timeout_seconds <= _MAX_VISIBILITY_TIMEOUT_SECONDS:
            raise ConfigurationError(f"Messages can be hidden for 1 to {_MAX_VISIBILITY_TIMEOUT_SECONDS} seconds.")
        self.url = url
        self.visibility_timeout_seconds = visibility_timeout_seconds
        region = _REGION.search(parts.hostname)
        with self._errors("set up"):
            # botocore uses only the path of a queue's URL, so scheme, host and region are given here.
            self._client: SQSClient = session.client(
                "sqs",
                endpoint_url=f"{parts.scheme}://{parts.netloc}",
                region_name=region[1] if region else session.region_name or "us-east-1",
                verify=verify,
                config=Config(
                    retries={"mode": "standard", "total_max_attempts": 5},
                    connect_timeout=10, read_timeout=60, max_pool_connections=16,
                ),
            )  # fmt: skip
        redact_loggers()

    async def receive(self, most: int, *, wait_seconds: int = 0) -> list[Message]:
        """Return some of the visible messages, hidden from now on; ten at most.

        The call itself cannot be cancelled: messages that it receives after its caller was are given back at once.

        Args:
            most: How many at most.
            wait_seconds: How long to wait for the first one, 20 at most.

        Raises:
            ConfigurationError: there is no such queue.
            StorageError: the queue refused, or could not be reached.
        """
        abandoned = threading.Event()

        def call() -> list[Message]:
            with self._errors("read"):
                answer = self._client.receive_message(
                    QueueUrl=self.url,
                    MaxNumberOfMessages=min(most, _MOST_AT_ONCE),
                    WaitTimeSeconds=wait_seconds,
                    VisibilityTimeout=self.visibility_timeout_seconds,
                    MessageSystemAttributeNames=["ApproximateReceiveCount"],
                )
            messages = [
                Message(
                    id=found["MessageId"],
                    body=found["Body"],
                    receipt=found["ReceiptHandle"],
                    receives=int(found.get("Attributes", {}).get("ApproximateReceiveCount", 1)),
                )
                for found in answer.get("Messages", [])
            ]
            if abandoned.is_set():
                self._hide(messages, 0)
            return messages

        try:
            return await self._in_thread(call)
        except asyncio.CancelledError:
            abandoned.set()
            raise

    async def extend(self, messages: Sequence[Message]) -> list[Message]:
        """Hide messages for another timeout, and return those for which the queue refused: they are not ours any more.

        Raises:
            StorageError: the queue refused, or could not be reached.
        """
        tens = [messages[start : start + _MOST_AT_ONCE] for start in range(0, len(messages), _MOST_AT_ONCE)]
        hide = functools.partial(self._hide, seconds=self.visibility_timeout_seconds)
        lost = await asyncio.gather(*(self._in_thread(functools.partial(hide, ten)) for ten in tens))
        return [message for some in lost for message in some]

    async def delete(self, message: Message) -> None:
        """Delete a message; one that is gone already is not an error.

        Raises:
            StorageError: the queue refused, or could not be reached.
        """

        def call() -> None:
            with self._errors("delete from"):
                self._client.delete_message(QueueUrl=self.url, ReceiptHandle=message.receipt)

        await self._in_thread(call)

    async def give_back(self, message: Message, *, after_seconds: int = 0) -> None:
        """Let a message be received again after this time; one that is gone already is not an error.

        Raises:
            StorageError: the queue refused, or could not be reached.
        """
        await self._in_thread(lambda: self._hide([message], after_seconds))

    def _hide(self, messages: Sequence[Message], seconds: int) -> list[Message]:
        """Hide ten messages at most for so long from now, and return those for which the queue refused."""
        if not messages:
            return []
        with self._errors("hide messages of"):
            answer = self._client.change_message_visibility_batch(
                QueueUrl=self.url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": message.receipt, "VisibilityTimeout": seconds}
                    for number, message in enumerate(messages)
                ],
            )
        return [messages[int(failed["Id"])] for failed in answer.get("Failed", [])]

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(_THREADS, call)

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Turn what boto3 raises into this project's errors, with what to do about it."""
        named = f"Could not {doing} the queue {self.url}"
        try:
            yield
        except ClientError as error:
            if (trouble := credential_trouble(error)) is not None:
                raise StorageError(f"{named}: {trouble}", error_code=type(error).__name__) from None
            code, status = refusal(error)
            if code.endswith(("NonExistentQueue", "QueueDoesNotExist")):
                raise ConfigurationError(
                    f"{named}: there is no such queue. Check its URL, region and account.",
                    error_code=code, http_status=status or None,
                ) from None  # fmt: skip
            if code in _WRONG_CREDENTIALS:
                raise StorageError(
                    f"{named}: the credentials lack the right, or have expired. They need sqs:ReceiveMessage, "
                    "sqs:DeleteMessage and sqs:ChangeMessageVisibility.",
                    error_code=code, http_status=status or None,
                ) from None  # fmt: skip
            passing = status >= 500 or status == 429 or "Throttl" in code
            message = str(error.response.get("Error", {}).get("Message", "")).strip()
            raise (StoreUnavailable if passing else StorageError)(
                f"{named}: {code}. {message}", error_code=code, http_status=status or None
            ) from None
        except Exception as error:
            if (trouble := credential_trouble(error)) is not None:
                raise StorageError(f"{named}: {trouble}", error_code=type(error).__name__) from None
            if not isinstance(error, BotoCoreError | ValueError):
                raise
            if isinstance(error, ConnectionError | HTTPClientError | SSLError):
                raise StoreUnavailable(
                    f"{named}: no connection, or it broke. Check the URL, the network and the certificates.",
                    error_code=type(error).__name__,
                ) from None
            raise StorageError(f"{named}: {error}", error_code=type(error).__name__) from None
