"""Work off a queue: never more messages than there are free slots, each kept hidden until its work is safe."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable

from runcomfy.errors import RunComfyError
from runcomfy.inbox.queue import Message, Queue

__all__ = ["InFlightMessage", "take"]

logger = logging.getLogger(__name__)

_WAIT_SECONDS = 5  # of a receiving call, which keeps a process from ending
_PATIENCE_SECONDS = 300.0
_SHORTEST_AWAY_SECONDS, _LONGEST_AWAY_SECONDS = 30, 900


class InFlightMessage:
    """A message that somebody works on. Its queue hears that it is done, or gets it back; both once.

    A queue that cannot be told is no trouble for the work: the message comes back, and is found to be done.
    """

    def __init__(self, message: Message, queue: Queue, holding: dict[str, Message]) -> None:
        self.id, self.body = message.id, message.body
        self._message, self._queue, self._holding = message, queue, holding
        holding[message.receipt] = message

    @property
    def settled(self) -> bool:
        """Whether the queue was told what became of it."""
        return self._message.receipt not in self._holding

    async def done(self) -> None:
        """Delete it: what it asks for is safe."""
        if self._holding.pop(self._message.receipt, None):
            await self._tell(self._queue.delete(self._message))

    async def again(self) -> None:
        """Give it back, to be received again after half a minute; later, the more often that has been so."""
        if self._holding.pop(self._message.receipt, None):
            away = min(_SHORTEST_AWAY_SECONDS * 2 ** min(self._message.receives - 1, 10), _LONGEST_AWAY_SECONDS)
            await self._tell(self._queue.give_back(self._message, after_seconds=away))

    async def _tell(self, call: Awaitable[None]) -> None:
        try:
            await call
        except RunComfyError as error:
            logger.warning("Message %s will come back: %s", self.id, error)


async def take(
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

    A message whose work does not settle it is given back. One whose work raises, too; no more are taken then, the
    others are worked on to their ends, and the error comes out.

    Args:
        queue: Where they come from.
        work: What is to be done for each.
        at_once: How many are worked on at a time.
        idle_seconds: It ends when there was no message for so long, and all work is done.
        run_for_seconds: No more messages are taken after that.
        enough: Whether no more are to be taken for another reason.
        monotonic: The clock, in seconds.

    Raises:
        ConfigurationError: there is no such queue.
        StorageError: the queue refused, or could not be reached for five minutes.
    """
    holding: dict[str, Message] = {}
    troubles: list[Exception] = []
    cancelled = asyncio.Event()
    started = heard = answered = monotonic()

    async def do(held: InFlightMessage) -> None:
        try:
            await work(held)
        except asyncio.CancelledError:  # a group takes that of a member for the member's own affair
            cancelled.set()
            raise
        except Exception as error:
            troubles.append(error)
        await held.again()

    async with asyncio.TaskGroup() as group:
        keeper = asyncio.create_task(_keep_hidden(queue, holding))
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
                    if not error.retryable or monotonic() > answered + _PATIENCE_SECONDS:
                        troubles.append(error)
                        break
                    logger.warning("Will ask the queue again: %s", error)
                    await asyncio.sleep(_WAIT_SECONDS)
                    continue
                answered = monotonic()
                if cancelled.is_set():  # they come back by themselves
                    break
                for message in messages:
                    task = group.create_task(do(InFlightMessage(message, queue, holding)))
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


async def _keep_hidden(queue: Queue, holding: dict[str, Message]) -> None:
    """Extend what is held well before it would come back; what is lost all the same costs a second look, no more."""
    while True:
        await asyncio.sleep(queue.hidden_seconds / 3)
        try:
            for lost in await queue.extend(list(holding.values())):
                holding.pop(lost.receipt, None)
        except RunComfyError as error:
            logger.warning("Messages that are worked on could not be kept hidden: %s", error)
