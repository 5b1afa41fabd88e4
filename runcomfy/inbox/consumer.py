"""Consume a queue: never more messages than there are free slots, each kept invisible until its work is safe."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable

from runcomfy.errors import RunComfyError
from runcomfy.inbox.queue import Message, Queue

__all__ = ["InFlightMessage", "consume"]

logger = logging.getLogger(__name__)

_WAIT_SECONDS = 5  # of a receiving call, which keeps a process from ending
_RETRY_FOR_SECONDS = 300.0
_MIN_DELAY_SECONDS, _MAX_DELAY_SECONDS = 30, 900


class InFlightMessage:
    """A message that is being processed. It is deleted or given back, once.

    A queue that cannot be reached does not fail the work: the message comes back, and its work is found to be done.
    """

    def __init__(self, message: Message, queue: Queue, in_flight: dict[str, Message]) -> None:
        self.id, self.body = message.id, message.body
        self._message, self._queue, self._in_flight = message, queue, in_flight
        in_flight[message.receipt] = message

    @property
    def settled(self) -> bool:
        """Whether it was deleted or given back."""
        return self._message.receipt not in self._in_flight

    async def delete(self) -> None:
        """Delete it: what it asks for is safe."""
        if self._in_flight.pop(self._message.receipt, None):
            await self._settle(self._queue.delete(self._message))

    async def give_back(self) -> None:
        """Give it back, to be received again after 30 seconds, twice that the next time, and 15 minutes at most."""
        if self._in_flight.pop(self._message.receipt, None):
            delay = min(_MIN_DELAY_SECONDS * 2 ** min(self._message.receives - 1, 10), _MAX_DELAY_SECONDS)
            await self._settle(self._queue.give_back(self._message, after_seconds=delay))

    async def _settle(self, call: Awaitable[None]) -> None:
        try:
            await call
        except RunComfyError as error:
            logger.warning("Message %s will come back: %s", self.id, error)


async def consume(
    queue: Queue,
    work: Callable[[InFlightMessage], Awaitable[None]],
    *,
    at_once: int,
    idle_seconds: float,
    run_for_seconds: float,
    enough: Callable[[], bool] = lambda: False,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Receive messages as slots get free, and do the work of each, until there are none or the time is over.

    A message that its work does not settle is given back, and so is one whose work raises: then no more are received,
    the others are finished, and the error is raised.

    Args:
        queue: Where they come from.
        work: What is to be done for each.
        at_once: How many are worked on at a time.
        idle_seconds: It ends when there was no message for so long, and all work is done.
        run_for_seconds: No more messages are received after that.
        enough: Whether to stop receiving for another reason.
        monotonic: The clock, in seconds.

    Raises:
        ConfigurationError: there is no such queue.
        StorageError: the queue refused, or could not be reached for five minutes.
    """
    in_flight: dict[str, Message] = {}
    troubles: list[Exception] = []
    cancelled = asyncio.Event()
    started = heard = answered = monotonic()

    async def do(message: InFlightMessage) -> None:
        try:
            await work(message)
        except asyncio.CancelledError:  # a task group would ignore the cancellation of a member
            cancelled.set()
            raise
        except Exception as error:
            troubles.append(error)
        await message.give_back()

    async with asyncio.TaskGroup() as group:
        keeper = asyncio.create_task(_keep_hidden(queue, in_flight))
        try:
            working: set[asyncio.Task[None]] = set()
            while not (troubles or cancelled.is_set() or enough()) and monotonic() < started + run_for_seconds:
                if len(working) >= at_once:
                    await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
                    continue
                idle_for = math.ceil(heard + idle_seconds - monotonic())
                wait_seconds = min(_WAIT_SECONDS, max(idle_for, 1 if working else 0))
                try:
                    messages = await queue.receive(at_once - len(working), wait_seconds=wait_seconds)
                except RunComfyError as error:
                    if not error.retryable or monotonic() > answered + _RETRY_FOR_SECONDS:
                        troubles.append(error)
                        break
                    logger.warning("The queue is asked again in %d seconds: %s", _WAIT_SECONDS, error)
                    await asyncio.sleep(_WAIT_SECONDS)
                    continue
                answered = monotonic()
                if cancelled.is_set():  # they come back by themselves
                    break
                for message in messages:
                    task = group.create_task(do(InFlightMessage(message, queue, in_flight)))
                    working.add(task)
                    task.add_done_callback(working.discard)
                if messages:
                    heard = monotonic()
                elif not working and monotonic() >= heard + idle_seconds:
                    break
            if working:
                await asyncio.wait(working)
        finally:
            keeper.cancel()
    if cancelled.is_set():
        raise asyncio.CancelledError("the flow run was cancelled")
    if troubles:
        raise troubles[0]


async def _keep_hidden(queue: Queue, in_flight: dict[str, Message]) -> None:
    """Extend messages in flight well before they would come back; one that comes back anyway costs no money."""
    while True:
        await asyncio.sleep(queue.visibility_timeout_seconds / 3)
        try:
            for lost in await queue.extend(list(in_flight.values())):
                in_flight.pop(lost.receipt, None)
        except RunComfyError as error:
            logger.warning("Messages in flight could not be kept invisible: %s", error)
