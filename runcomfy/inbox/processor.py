"""One picture from its arrival to its end: what is asked for, the staged picture, the generation, the record."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Any, Literal, Protocol, TypeVar
from weakref import WeakValueDictionary

from pydantic import BaseModel, ConfigDict, Field

from runcomfy.errors import InvalidInput, RunComfyError, StorageError
from runcomfy.generation.staging import stage_image
from runcomfy.inbox.consumer import InFlightMessage
from runcomfy.inbox.images import InboxImage, Source
from runcomfy.inbox.ledger import Ledger
from runcomfy.inbox.notices import read_notice
from runcomfy.inbox.request_spec import read_request_spec
from runcomfy.models.orders import Order
from runcomfy.storage.store import Store
from runcomfy.values import Outcome, OutcomeStatus, StagedImage

__all__ = ["Disposition", "Generate", "ImageProcessor", "Received"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_THREADS = ThreadPoolExecutor(8, thread_name_prefix="inbox")
"""Its own: in asyncio's, the next picture would queue behind the transfers of videos."""
_ITS_OWN_FAULT = ("InvalidInput", "RequestRejected")
_CONCERNS_ALL = ("AuthenticationError", "CommonCause", "ConfigurationError", "InsufficientBalance")


class Disposition(StrEnum):
    """What became of a picture in this run."""

    ARCHIVED = "archived"
    EXISTING = "existing"
    """Its generation was archived before."""
    HANDLED = "handled"
    """It was archived or set aside by an earlier run, or by another arrival of it."""
    WAITING = "waiting"
    """There is no prompt for it yet; the arrival of a sidecar makes it ready."""
    SET_ASIDE = "set aside"
    """It cannot be, or the service failed at it; not tried again until the picture or a sidecar changes."""
    OPEN = "open"
    """The journal has it, and this run could not finish it: `reconcile`, or a person, does."""
    CANCELLED = "cancelled"
    """It was cancelled in the service's queue; the next listing takes it up again."""
    POSTPONED = "postponed"
    """Nothing was paid for, and it is not the picture's fault: it is tried again."""

    @property
    def is_trouble(self) -> bool:
        """Whether there is no video although one was wanted."""
        return self in (Disposition.SET_ASIDE, Disposition.OPEN, Disposition.CANCELLED, Disposition.POSTPONED)

    @property
    def is_final(self) -> bool:
        """Whether nothing of it depends on being told again."""
        return self in (
            Disposition.ARCHIVED,
            Disposition.EXISTING,
            Disposition.HANDLED,
            Disposition.WAITING,
            Disposition.SET_ASIDE,
        )


class Received(BaseModel):
    """A picture, or a message that told of none, and what became of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="The picture, s3://bucket/key; or where an unreadable message is kept.")
    fate: Disposition
    generation_key: str | None = None
    uris: tuple[str, ...] = Field(default=(), description="Where its files stand, s3://bucket/key.")
    cost_usd: float | None = Field(default=None, description="US dollars, where the service told.")
    reason: str | None = None


class Generate(Protocol):
    """Makes one generation, to its end; an error of it is in its outcome."""

    async def __call__(
        self, order: Order, image: StagedImage, label: str, accepted: Callable[[], Awaitable[None]]
    ) -> Outcome:
        """Submit, wait, archive; await `accepted` as soon as the journal has the generation."""


class ImageProcessor:
    """Receives pictures. The same one at the same time is taken up once here; elsewhere, the journal sees to it.

    Args:
        source: Where pictures arrive.
        store: Where they are staged; its credentials read the source too.
        defaults: What is asked for where neither sidecar nor metadata says it, by field.
        generate: Makes a generation.
        at_once: How many pictures are worked on at a time.
        tell: Called with what became of each, as it is known.
    """

    def __init__(
        self,
        source: Source,
        store: Store,
        defaults: Mapping[str, Any],
        generate: Generate,
        *,
        at_once: int,
        tell: Callable[[Received], None] = lambda received: None,
    ) -> None:
        self.received: dict[str, Received] = {}
        """What became of each, by the version of the picture; the last word, but a good one stays."""
        self.blocked: str | None = None
        """What keeps every generation from being submitted; no more are to be taken up then."""
        self.elsewhere = 0
        """How many arrivals were told of that are none of this inbox."""
        self._source, self._store, self._defaults = source, store, dict(defaults)
        self._ledger = Ledger(store)
        self._generate, self._tell = generate, tell
        self._at_once = at_once
        self._gate = asyncio.Semaphore(at_once)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def take_message(self, held: InFlightMessage) -> None:
        """Do what a message asks for. It is deleted as soon as the journal or the ledger has all its pictures.

        What cannot be done for now leaves it unsettled: it is to be given back.
        """
        self.received.pop(held.id, None)
        try:
            pictures = await self._pictures(held)
        except StorageError as error:
            self._say(held.id, Received(source=f"message {held.id}", fate=Disposition.POSTPONED, reason=error.message))
            return
        unsafe = set(pictures)

        async def safe(identity: str) -> None:
            unsafe.discard(identity)
            if not unsafe:
                await held.done()

        async def take(picture: InboxImage) -> None:
            received = await self._take(picture, lambda: safe(picture.identity))
            if received.fate.is_final:
                await safe(picture.identity)

        ends = await asyncio.gather(*map(take, pictures.values()), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        if not pictures:
            await held.done()

    async def take_new(self, *, run_for_seconds: float) -> None:
        """Take up every picture that stands in the source and is not in the ledger, the oldest first.

        An error that nobody thought of comes out after all others are done.

        Args:
            run_for_seconds: No more are taken up after that.

        Raises:
            StorageError: the source or the ledger could not be listed.
        """
        until = time.monotonic() + run_for_seconds
        standing = await _in_thread(self._source.images)
        known = await _in_thread(self._ledger.identities)

        troubles: list[Exception] = []
        cancelled = asyncio.Event()

        async def nobody_to_tell() -> None: ...

        async def take(picture: InboxImage) -> None:
            try:
                await self._take(picture, nobody_to_tell)
            except asyncio.CancelledError:  # a group takes that of a member for the member's own affair
                cancelled.set()
                raise
            except Exception as error:  # the others are worked on to their ends
                troubles.append(error)

        async with asyncio.TaskGroup() as group:
            working: set[asyncio.Task[None]] = set()
            for picture in standing:
                if picture.identity in known:
                    continue
                if len(working) >= self._at_once:
                    await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
                if cancelled.is_set():
                    break
                if self.blocked or time.monotonic() >= until:
                    reason = self.blocked or "The time of this run was over."
                    self._note(picture, Disposition.POSTPONED, reason=reason)
                    continue
                task = group.create_task(take(picture))
                working.add(task)
                task.add_done_callback(working.discard)
        if cancelled.is_set():
            raise asyncio.CancelledError("the flow run was cancelled")
        if troubles:
            raise troubles[0]

    async def _pictures(self, held: InFlightMessage) -> dict[str, InboxImage]:
        """Return what a message is about, as it stands in the bucket now; keep a message that is about nothing."""
        pictures: dict[str, InboxImage] = {}
        try:
            arrivals = read_notice(held.body)
        except InvalidInput as error:
            kept = await _in_thread(self._ledger.keep_message, held.id, held.body, error.message)
            self._say(held.id, Received(source=kept, fate=Disposition.SET_ASIDE, reason=error.message))
            arrivals = ()
        for arrival in arrivals:
            if self._source.holds(arrival.bucket, arrival.key):
                found = await _in_thread(self._source.images_of, arrival.key)
                pictures |= {picture.identity: picture for picture in found}
            else:
                self.elsewhere += 1
        return pictures

    async def _take(self, picture: InboxImage, accepted: Callable[[], Awaitable[None]]) -> Received:
        turn = self._turns.setdefault(picture.identity, asyncio.Lock())
        async with turn, self._gate:
            try:
                if record := await _in_thread(self._ledger.read, picture):
                    return self._note(picture, Disposition.HANDLED, record.generation_key, reason=record.reason)
                order = await _in_thread(read_request_spec, picture, self._store, self._defaults)
                if order is None:
                    return self._note(picture, Disposition.WAITING, reason="There is no prompt for it yet.")
                image = await stage_image(picture.uri, self._store)
                for warning in image.warnings:
                    logger.warning("%s: %s", picture.uri, warning)
            except RunComfyError as error:
                if isinstance(error, InvalidInput) and not error.retryable:
                    return await self._set_aside(picture, "rejected", error.message)
                return self._note(picture, Disposition.POSTPONED, reason=error.message)
            return await self._conclude(picture, await self._generate(order, image, picture.uri, accepted))

    async def _conclude(self, picture: InboxImage, outcome: Outcome) -> Received:
        status, key = outcome.status, outcome.generation_key
        if status.is_good:
            await self._record(picture, "archived", key, None)
            fate = Disposition.ARCHIVED if status is OutcomeStatus.ARCHIVED else Disposition.EXISTING
        elif status is OutcomeStatus.FAILED:
            return await self._set_aside(picture, "failed", outcome.error or "", outcome)
        elif status is OutcomeStatus.REFUSED and outcome.error_type in _ITS_OWN_FAULT and not outcome.retryable:
            return await self._set_aside(picture, "rejected", outcome.error or "", outcome)
        elif status is OutcomeStatus.CANCELLED:
            fate = Disposition.CANCELLED
        else:
            fate = Disposition.OPEN if status.may_be_paid else Disposition.POSTPONED
            if fate is Disposition.POSTPONED and outcome.error_type in _CONCERNS_ALL:
                self.blocked = outcome.error
        return self._note(picture, fate, key, outcome.uris, outcome.cost_usd, outcome.error)

    async def _set_aside(
        self, picture: InboxImage, how: Literal["failed", "rejected"], reason: str, outcome: Outcome | None = None
    ) -> Received:
        key = outcome.generation_key if outcome else None
        if await self._record(picture, how, key, reason):
            return self._note(
                picture, Disposition.SET_ASIDE, key, cost_usd=outcome.cost_usd if outcome else None, reason=reason
            )
        return self._note(picture, Disposition.POSTPONED, key, reason=reason)

    async def _record(
        self, picture: InboxImage, how: Literal["archived", "failed", "rejected"], key: str | None, reason: str | None
    ) -> bool:
        """Write it into the ledger. Without that, the next arrival or listing finds out again, which costs no money."""
        try:
            write = functools.partial(self._ledger.write, picture, how, generation_key=key, reason=reason)
            await _in_thread(write)
        except StorageError as error:
            logger.warning("What became of %s could not be recorded: %s", picture.uri, error)
            return False
        return True

    def _note(
        self,
        picture: InboxImage,
        fate: Disposition,
        generation_key: str | None = None,
        uris: tuple[str, ...] = (),
        cost_usd: float | None = None,
        reason: str | None = None,
    ) -> Received:
        received = Received(
            source=picture.uri, fate=fate, generation_key=generation_key, uris=uris, cost_usd=cost_usd, reason=reason
        )
        self._say(picture.identity, received)
        return received

    def _say(self, identity: str, received: Received) -> None:
        before = self.received.get(identity)
        if before is None or received.fate is not Disposition.HANDLED:
            self.received[identity] = received
            self._tell(received)


async def _in_thread(call: Callable[..., _T], *arguments: Any) -> _T:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, functools.partial(call, *arguments))
