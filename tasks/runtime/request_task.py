"""Tasks about a request that is to be paid for: no cancellation between them leaves it alone in the queue.

Prefect's engine works before and after the function of a task, and may be cancelled there. What the engine of a
generation does about an interrupted wait (`runcomfy.generation.ending`) is done here about an interrupted task whose
function has accepted a request already, or has not begun to wait for it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import anyio
from prefect import Task
from prefect.context import FlowRunContext
from prefect.task_engine import TaskRunTimeoutError

from blocks import MediaStore, RunComfyCredentials
from runcomfy.errors import RunComfyError, is_retryable
from runcomfy.generation.ending import handle_cancellation
from runcomfy.generation.hooks import Hooks
from runcomfy.interruption.keyboard import noticing_ctrl_c
from runcomfy.policy import OnInterrupt
from runcomfy.values import Submission
from tasks.runtime.hooks import PREFECT

__all__ = ["OpenRequest", "open_request", "request_task", "waited_for"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_OPENING_SECONDS = 30


@dataclass(frozen=True)
class OpenRequest:
    """A request that nobody waits for at this moment, and what to do about it if the run is interrupted."""

    submission: Submission | str
    credentials: RunComfyCredentials
    store: MediaStore | None
    on_interrupt: OnInterrupt

    async def handle_cancellation(self, hooks: Hooks, *, timed_out: bool) -> None:
        """As `runcomfy.generation.ending.handle_cancellation`."""
        known = self.submission if isinstance(self.submission, Submission) else None
        request_id = known.request_id if known else str(self.submission)
        if known is not None and known.archive is not None:
            return
        try:
            with anyio.move_on_after(_OPENING_SECONDS, shield=True):
                async with self.credentials.get_client() as client:
                    await handle_cancellation(
                        client,
                        hooks,
                        self.store.destination() if self.store else None,
                        known.generation_key if known else None,
                        request_id,
                        self.on_interrupt,
                        timed_out=timed_out,
                    )
        except Exception as error:  # whatever it is: the interruption has to go on
            said = error if isinstance(error, RunComfyError) else type(error).__name__
            hooks.log.error("Request %s could not be cancelled and may be billed: %s", request_id, said)


_held: ContextVar[list[OpenRequest] | None] = ContextVar("open_request", default=None)
"""Of this call of a task: the request that is open, if there is one."""


def open_request(request: OpenRequest) -> None:
    """Say that a request is accepted that nobody waits for yet; from here on it is not left alone."""
    held = _held.get()
    if held is not None and isinstance(request.submission, Submission | str):  # not what `allow_failure` passes on
        held[:] = [request]


@contextmanager
def waited_for(request: OpenRequest) -> Iterator[None]:
    """Say that the body waits for the request, and handles its own interruption; open again if it is to be repeated."""
    held = _held.get()
    if held is not None:
        held.clear()
    try:
        yield
    except Exception as error:
        if is_retryable(error):
            open_request(request)
        raise


class _RequestTask(Task[_P, _R]):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        called = super().__call__(*args, **kwargs)
        if not inspect.iscoroutine(called):  # as where a flow is drawn
            return called
        given = {name: value for name, value in kwargs.items() if name not in ("return_state", "wait_for")}
        bound = inspect.signature(self.fn).bind_partial(*args, **given)
        bound.apply_defaults()
        return _guarded(called, _request_of(bound.arguments))

    def with_options(self, **options: Any) -> Task[_P, _R]:
        changed = super().with_options(**options)
        changed.__class__ = type(self)  # Prefect makes one of its own class
        return changed


def _request_of(given: Mapping[str, Any]) -> OpenRequest | None:
    """Return the request that a task is given; `None` if it is given none, or only what will be one."""
    submission, credentials, store = given.get("submission"), given.get("credentials"), given.get("store")
    if not isinstance(submission, Submission | str) or not isinstance(credentials, RunComfyCredentials):
        return None
    known_store = store if isinstance(store, MediaStore) else None
    return OpenRequest(submission, credentials, known_store, given.get("on_interrupt", "ask"))


async def _guarded(called: Coroutine[Any, Any, _R], request: OpenRequest | None) -> _R:
    held = [request] if request is not None else []
    token = _held.set(held)
    hooks = PREFECT if FlowRunContext.get() is not None else Hooks()
    try:
        with noticing_ctrl_c(hooks.notices_ctrl_c):
            try:
                return await called
            except (asyncio.CancelledError, TaskRunTimeoutError) as interrupted:
                for each in held:
                    await each.handle_cancellation(hooks, timed_out=isinstance(interrupted, TaskRunTimeoutError))
                raise
    finally:
        _held.reset(token)


def request_task(**options: Any) -> Callable[[Callable[_P, _R]], Task[_P, _R]]:
    """Return a decorator that makes a task of an asynchronous function about a request; as `prefect.task`.

    Args:
        options: Those of `prefect.task`.
    """

    def decorate(function: Callable[_P, _R]) -> Task[_P, _R]:
        return _RequestTask(function, **options)

    return decorate
