"""Process one image: read its request spec, stage it, generate, and record the outcome."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Protocol, TypeVar
from weakref import WeakValueDictionary

from pydantic import BaseModel, ConfigDict, Field

from runcomfy.batch.plan import stage_order
from runcomfy.errors import InvalidInput, RunComfyError, StorageError
from runcomfy.inbox.consumer import InFlightMessage
from runcomfy.inbox.images import InboxImage, Source
from runcomfy.inbox.ledger import Ledger
from runcomfy.inbox.notices import read_notice
from runcomfy.inbox.request_spec import read_request_spec
from runcomfy.inbox.target import IMAGE_TO_VIDEO_TARGET, Target
from runcomfy.models.orders import Order
from runcomfy.storage.store import Store
from runcomfy.values import Outcome, OutcomeStatus, StagedFile, StagedImage

__all__ = ["Generate", "ImageProcessor", "Received"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_THREADS = ThreadPoolExecutor(8, thread_name_prefix="inbox")
"""A pool of its own: in asyncio's, the next image would queue behind the transfers of videos."""
_ITS_OWN_FAULT = ("InvalidInput", "RequestRejected")
_CONCERNS_ALL = ("AuthenticationError", "CommonCause", "ConfigurationError", "InsufficientBalance")
_O = OutcomeStatus
_TROUBLE = (_O.SET_ASIDE, _O.OPEN, _O.CANCELLED, _O.POSTPONED)
_SAFE = (_O.ARCHIVED, _O.EXISTING, _O.HANDLED, _O.WAITING, _O.SET_ASIDE)


class Received(BaseModel):
    """An image, or a message that named none, and how it ended in this run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="The image, s3://bucket/key; or where an unreadable message is kept.")
    fate: OutcomeStatus
    generation_key: str | None = None
    uris: tuple[str, ...] = Field(default=(), description="Where its files are, s3://bucket/key.")
    cost_usd: float | None = Field(default=None, description="US dollars, where the service reported it.")
    reason: str | None = None

    @property
    def is_trouble(self) -> bool:
        """Whether there is no video although one was wanted."""
        return self.fate in _TROUBLE

    @property
    def is_safe(self) -> bool:
        """Whether its message may be deleted: nothing is left to do, or the ledger or a listing has it."""
        return self.fate in _SAFE


class Generate(Protocol):
    """Makes one generation, to its end; its error, if any, is in the outcome."""

    async def __call__(
        self, order: Order, staged: tuple[StagedFile, ...], label: str, accepted: Callable[[], Awaitable[None]]
    ) -> Outcome:
        """Submit, wait, archive; await `accepted` as soon as the journal has the generation."""


class ImageProcessor:
    """Processes images. Two arrivals of one at the same time are one here; between processes, the journal ensures that.

    Args:
        source: Where images arrive.
        store: Where they are staged; its credentials read the source too.
        defaults: Fields of the request spec for what neither sidecar nor metadata gives.
        generate: Makes a generation.
        at_once: How many images are worked on at a time.
        on_received: Called with each as soon as its outcome is known.
        target: What they become; of a model of the catalogue, videos and sounds arrive in the same way.
    """

    def __init__(
        self,
        source: Source,
        store: Store,
        defaults: Mapping[str, Any],
        generate: Generate,
        *,
        at_once: int,
        on_received: Callable[[Received], None] = lambda received: None,
        target: Target = IMAGE_TO_VIDEO_TARGET,
    ) -> None:
        self.received: dict[str, Received] = {}
        """The outcome of each, by the version of the image; the last one, but `handled` replaces no other."""
        self.blocked: str | None = None
        """What keeps every generation from being submitted; no more images should be processed then."""
        self.elsewhere = 0
        """How many arrivals were not in this inbox."""
        self._source, self._store, self._defaults = source, store, dict(defaults)
        self._ledger = Ledger(store)
        self._generate, self._on_received = generate, on_received
        self._at_once, self._target = at_once, target
        self._gate = asyncio.Semaphore(at_once)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def process_message(self, message: InFlightMessage) -> None:
        """Process the images that a message is about; delete it as soon as the journal or the ledger has all of them.

        It stays unsettled, to be given back, while one of them cannot be processed.
        """
        self.received.pop(message.id, None)
        try:
            images = await self._images(message)
        except StorageError as error:
            received = Received(source=f"message {message.id}", fate=OutcomeStatus.POSTPONED, reason=error.message)
            self._report(message.id, received)
            return
        unsafe = set(images)

        async def safe(identity: str) -> None:
            unsafe.discard(identity)
            if not unsafe:
                await message.delete()

        async def process(image: InboxImage) -> None:
            received = await self._process(image, lambda: safe(image.identity))
            if received.is_safe:
                await safe(image.identity)

        for result in await asyncio.gather(*map(process, images.values()), return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        if not images:
            await message.delete()

    async def process_new(self, *, run_for_seconds: float) -> None:
        """Process every image that is in the source and not in the ledger, the oldest first.

        An unexpected error is raised after all others are done.

        Args:
            run_for_seconds: No more are begun after that.

        Raises:
            StorageError: the source or the ledger could not be listed.
        """
        until = time.monotonic() + run_for_seconds
        images = await _in_thread(self._source.images)
        known = await _in_thread(self._ledger.identities)

        troubles: list[Exception] = []
        cancelled = asyncio.Event()

        async def no_message() -> None: ...

        async def process(image: InboxImage) -> None:
            try:
                await self._process(image, no_message)
            except asyncio.CancelledError:  # a task group would ignore the cancellation of a member
                cancelled.set()
                raise
            except Exception as error:  # the others are finished
                troubles.append(error)

        async with asyncio.TaskGroup() as group:
            working: set[asyncio.Task[None]] = set()
            for image in images:
                if image.identity in known:
                    continue
                if len(working) >= self._at_once:
                    await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
                if cancelled.is_set():
                    break
                if self.blocked or time.monotonic() >= until:
                    reason = self.blocked or "The time of this run was over."
                    self._receive(image, OutcomeStatus.POSTPONED, reason=reason)
                    continue
                task = group.create_task(process(image))
                working.add(task)
                task.add_done_callback(working.discard)
        if cancelled.is_set():
            raise asyncio.CancelledError("the flow run was cancelled")
        if troubles:
            raise troubles[0]

    async def _images(self, message: InFlightMessage) -> dict[str, InboxImage]:
        """Return the images that a message is about, as they are in the bucket now; keep one that is not a notice."""
        images: dict[str, InboxImage] = {}
        try:
            arrivals = read_notice(message.body)
        except InvalidInput as error:
            kept = await _in_thread(self._ledger.keep_message, message.id, message.body, error.message)
            self._report(message.id, Received(source=kept, fate=OutcomeStatus.SET_ASIDE, reason=error.message))
            arrivals = ()
        for arrival in arrivals:
            if self._source.holds(arrival.bucket, arrival.key):
                found = await _in_thread(self._source.images_of, arrival.key)
                images |= {image.identity: image for image in found}
            else:
                self.elsewhere += 1
        return images

    async def _process(self, image: InboxImage, accepted: Callable[[], Awaitable[None]]) -> Received:
        lock = self._locks.setdefault(image.identity, asyncio.Lock())
        async with lock, self._gate:
            try:
                if record := await _in_thread(self._ledger.read, image):
                    return self._receive(image, OutcomeStatus.HANDLED, record.generation_key, reason=record.reason)
                order = await _in_thread(
                    functools.partial(read_request_spec, target=self._target, holds=self._source.holds),
                    image, self._store, self._defaults,
                )  # fmt: skip
                if order is None:
                    return self._receive(image, OutcomeStatus.WAITING, reason=self._target.waits_for)
                order, staged = await stage_order(order, self._store)
                for warning in (each for file in staged if isinstance(file, StagedImage) for each in file.warnings):
                    logger.warning("%s: %s", image.uri, warning)
            except RunComfyError as error:
                if isinstance(error, InvalidInput) and not error.retryable:
                    return await self._set_aside(image, "rejected", error.message)
                return self._receive(image, OutcomeStatus.POSTPONED, reason=error.message)
            return await self._conclude(image, await self._generate(order, staged, image.uri, accepted))

    async def _conclude(self, image: InboxImage, outcome: Outcome) -> Received:
        ended, key = outcome.status, outcome.generation_key
        if ended.is_good:
            await self._record(image, "archived", key, None)
            status = ended
        elif ended is OutcomeStatus.FAILED:
            return await self._set_aside(image, "failed", outcome.error or "", outcome)
        elif ended is OutcomeStatus.REFUSED and outcome.error_type in _ITS_OWN_FAULT and not outcome.retryable:
            return await self._set_aside(image, "rejected", outcome.error or "", outcome)
        elif ended is OutcomeStatus.CANCELLED:
            status = ended
        else:
            status = OutcomeStatus.OPEN if ended.may_be_paid else OutcomeStatus.POSTPONED
            if status is OutcomeStatus.POSTPONED and outcome.error_type in _CONCERNS_ALL:
                self.blocked = outcome.error
        return self._receive(image, status, key, outcome.uris, outcome.cost_usd, outcome.error)

    async def _set_aside(
        self, image: InboxImage, how: Literal["failed", "rejected"], reason: str, outcome: Outcome | None = None
    ) -> Received:
        key = outcome.generation_key if outcome else None
        if await self._record(image, how, key, reason):
            return self._receive(
                image, OutcomeStatus.SET_ASIDE, key, cost_usd=outcome.cost_usd if outcome else None, reason=reason
            )
        return self._receive(image, OutcomeStatus.POSTPONED, key, reason=reason)

    async def _record(
        self, image: InboxImage, how: Literal["archived", "failed", "rejected"], key: str | None, reason: str | None
    ) -> bool:
        """Write it into the ledger. If that fails, the next arrival or listing repeats the work at no cost."""
        try:
            write = functools.partial(self._ledger.write, image, how, generation_key=key, reason=reason)
            await _in_thread(write)
        except StorageError as error:
            logger.warning("The outcome of %s could not be recorded: %s", image.uri, error)
            return False
        return True

    def _receive(
        self,
        image: InboxImage,
        status: OutcomeStatus,
        generation_key: str | None = None,
        uris: tuple[str, ...] = (),
        cost_usd: float | None = None,
        reason: str | None = None,
    ) -> Received:
        received = Received(
            source=image.uri, fate=status, generation_key=generation_key, uris=uris, cost_usd=cost_usd, reason=reason
        )
        self._report(image.identity, received)
        return received

    def _report(self, identity: str, received: Received) -> None:
        before = self.received.get(identity)
        if before is None or received.fate is not OutcomeStatus.HANDLED:
            self.received[identity] = received
            self._on_received(received)


async def _in_thread(call: Callable[..., _T], *arguments: Any) -> _T:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, functools.partial(call, *arguments))
