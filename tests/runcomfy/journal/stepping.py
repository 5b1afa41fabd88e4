"""Workers that take one step at a time: every effect on the outside world waits until the test lets it happen.

A worker is a coroutine in an event loop of its own. Each of its calls to the service, each thread that touches the
journal's store, and each sleep is a step. The test lets one step happen, kills a worker before or after its effect, or
interrupts it: an interleaving is a list of choices, and can be repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

__all__ = ["How", "Interrupted", "Killed", "Steps", "Worker", "current_worker"]

How = Literal["done", "kill before", "kill after", "interrupt before", "interrupt after"]
_current: ContextVar[Worker] = ContextVar("worker")


class Killed(BaseException):
    """What a killed worker gets instead of an answer, from then on: nothing that it does has an effect any more."""


class Interrupted(BaseException):
    """What a signal handler raises in the middle of anything; the worker's last steps still have effects."""


@dataclass
class Step:
    """One effect that a worker is about to have."""

    name: str
    effect: Callable[[], Any]
    answer: Future[Any]


@dataclass
class Worker:
    """A coroutine that is stepped through."""

    name: str
    traits: dict[str, Any]
    task: asyncio.Task[Any] = field(init=False)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    waiting: list[Step] = field(default_factory=list)
    dead: bool = False
    attempt: int | None = None
    """The attempt whose intent it wrote last."""

    @property
    def next(self) -> Step | None:
        """What it is about to do; nothing, if it is at its end."""
        self.waiting = [step for step in self.waiting if not step.answer.done()]
        return self.waiting[0] if self.waiting else None

    @property
    def alive(self) -> bool:
        return not self.task.done()

    def error(self) -> BaseException | None:
        """What it ended with; a cancellation counts."""
        if self.task.cancelled():
            return asyncio.CancelledError()
        return self.task.exception()


def current_worker() -> Worker | None:
    """Return the worker that acts; nobody, where a thread pool of its own does."""
    return _current.get(None)


class _Loop(asyncio.SelectorEventLoop):
    """What is given to a thread here is a step, which waits until it is let happen."""

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        if _current.get(None) is None:
            return super().run_in_executor(executor, func, *args)
        return asyncio.wrap_future(_park(_name_of(func), lambda: func(*args)), loop=self)


def _name_of(func: Any) -> str:
    """Unwrap the partials around a function, asyncio.to_thread's among them."""
    while isinstance(func, partial):
        inner = func.args[0] if func.args else None
        func = inner if func.func.__name__ == "run" and callable(inner) else func.func
    return getattr(func, "__name__", "thread")


def _park(name: str, effect: Callable[[], Any]) -> Future[Any]:
    answer: Future[Any] = Future()
    worker = _current.get()
    if worker.dead:
        answer.set_exception(Killed())
    else:
        worker.waiting.append(Step(name, partial(copy_context().run, effect), answer))
    return answer


class Steps:
    """An event loop, and the workers in it."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self._loop = _Loop()
        self._loop.set_task_factory(self._new_task)

    async def effect(self, name: str, effect: Callable[[], Any]) -> Any:
        """Do something as a step of the worker that awaits it."""
        return await asyncio.wrap_future(_park(name, effect))

    def start(self, name: str, work: Callable[[], Coroutine[Any, Any, Any]], **traits: Any) -> Worker:
        """Begin a worker, up to its first step."""
        worker = Worker(name, traits)

        async def begin() -> None:
            _current.set(worker)
            worker.task = asyncio.ensure_future(work())

        self._loop.run_until_complete(begin())
        self.workers.append(worker)
        self._settle()
        return worker

    def step(self, worker: Worker, how: How = "done") -> None:
        """Let the worker's next step happen, or end it there."""
        if (step := worker.next) is None:
            return
        if how.startswith("kill"):
            worker.dead = True
        if how.endswith("before"):
            step.answer.set_exception(Killed() if worker.dead else Interrupted())
        else:
            try:
                answer = step.effect()
            except BaseException as error:
                step.answer.set_exception(error if how == "done" else Killed() if worker.dead else Interrupted())
            else:
                if how == "done":
                    step.answer.set_result(answer)
                else:
                    step.answer.set_exception(Killed() if worker.dead else Interrupted())
        if worker.dead:
            for other in worker.waiting:
                if not other.answer.done():
                    other.answer.set_exception(Killed())
        self._settle()

    def finish(self, worker: Worker, most: int = 400) -> None:
        """Let step after step happen until the worker is at its end, or was given enough of them."""
        for _ in range(most):
            if not worker.alive:
                return
            self.step(worker)

    def cancel(self, worker: Worker, *, every_task: bool) -> Callable[[], Any] | None:
        """Cancel it, or all of its tasks as a loop does that shuts down.

        Returns:
            What it had given to a thread, which nobody can call back: it may still happen.
        """
        step = worker.next
        for task in worker.tasks if every_task else [worker.task]:
            task.cancel()
        self._settle()
        return step.effect if step is not None and step.answer.cancelled() else None

    def close(self) -> None:
        """Kill every worker."""
        for worker in self.workers:
            worker.dead = True
            while worker.alive:
                for step in worker.waiting:
                    if not step.answer.done():
                        step.answer.set_exception(Killed())
                self._settle()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run something that takes no steps."""
        return self._loop.run_until_complete(work)

    def _settle(self) -> None:
        self._loop.run_until_complete(self._settled())

    async def _settled(self) -> None:
        quiet = 0
        while quiet < 3:  # a few more turns of the loop, for callbacks behind callbacks
            await asyncio.sleep(0)
            self.workers = [worker for worker in self.workers if worker.alive or self._ended(worker)]
            quiet = quiet + 1 if all(not worker.alive or worker.next for worker in self.workers) else 0

    def _ended(self, worker: Worker) -> bool:
        worker.error()  # marks an exception as retrieved
        for task in worker.tasks:
            with contextlib.suppress(asyncio.CancelledError, asyncio.InvalidStateError):
                task.exception()
        return True

    def _new_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **options)
        if (worker := _current.get(None)) is not None:
            worker.tasks.append(task)
        return task
