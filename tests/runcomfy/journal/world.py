"""A service that is paid, a journal store that fails, a bucket and a clock: the world around the journal's workers.

It is also the witness: it sees every paid call and every write of the journal, and notes every violation.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx

from runcomfy.api.client import RunComfyClient
from runcomfy.api.rate_limit import Clock
from runcomfy.api.requests import collect
from runcomfy.errors import RunComfyError, StoreUnavailable
from runcomfy.journal import (
    OPEN,
    RESTARTABLE,
    Entry,
    EntryState,
    GenerationSpec,
    Journal,
    MemoryJournalStore,
    cancel_or_detach,
    reconcile_entry,
    record_archived,
    record_outcome,
    submit_once,
)
from runcomfy.journal.stores import Stored
from runcomfy.models import TextToVideo
from runcomfy.policy import Deadlines, OnUncertain, Polling
from runcomfy.polling.poll import poll_until_done
from runcomfy.values import Archive, ArchivedVideo, MediaFacts, Result, Submission
from tests.runcomfy.journal.stepping import Steps, Worker, current_worker

__all__ = ["Request", "World"]

_T = TypeVar("_T")
START = datetime(2026, 11, 21, tzinfo=UTC)
LEASE_SECONDS = 180.0
INDEFINITELY_SECONDS = 1e9
_NO = {"error_code": 499999, "error_message": "no"}


@dataclass
class Request:
    """One accepted request, as the service knows it: paid for."""

    id: str
    generation: str
    attempt: int
    run: str
    plan: str
    state: str = "in_queue"
    expired: bool = False

    @property
    def ended_without_video(self) -> bool:
        return self.state in ("failed", "cancelled")


@dataclass
class World:
    """Everything outside our code."""

    steps: Steps = field(default_factory=Steps)
    now: float = 0.0
    store_is_down: bool = False
    store_blips: deque[str] = field(default_factory=deque)
    post_faults: deque[str] = field(default_factory=deque)
    call_faults: deque[str] = field(default_factory=deque)
    plans: deque[str] = field(default_factory=deque)
    requests: list[Request] = field(default_factory=list)
    bucket: set[str] = field(default_factory=set)
    late: list[Callable[[], Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    allowed: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """By generation, the attempts after which a person allowed another payment."""
    decided: set[tuple[str, int]] = field(default_factory=set)
    """The attempts of which a person has said which request they became, right or wrong."""
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.store = WitnessedStore(self)
        self.client = RunComfyClient("token-of-tests", transport=httpx.MockTransport(self._handle))
        self._ids = itertools.count(1)

    def spec(self, generation: str, run: str = "") -> GenerationSpec:
        return GenerationSpec(TextToVideo(prompt=generation), self.client.base_url, run=run)

    def journal(self, *, lease_seconds: float = LEASE_SECONDS, retry: float = 0.0) -> Journal:
        return Journal(
            self.store, lease_seconds=lease_seconds, retry_seconds=retry, record_seconds=retry, sleep=self.sleep
        )

    def entry(self, generation: str) -> Entry | None:
        stored = self.store.inner.read(f"{self.spec(generation).key}.json")
        return Entry.model_validate_json(stored.body) if stored else None

    async def sleep(self, seconds: float) -> None:
        def passes() -> None:
            self.now += max(seconds, 0.01)  # time always passes; a sum of floats may not change

        await self.steps.effect("sleep", passes)

    # ---- what a worker does: from submission to archive, as the tasks do

    async def work(
        self, generation: str, run: str, *, on_uncertain: OnUncertain, lease_seconds: float, retry: float, cancels: bool
    ) -> Archive:
        journal = self.journal(lease_seconds=lease_seconds, retry=retry)
        spec = self.spec(generation, run)

        async def prepare() -> TextToVideo:
            await self.steps.effect("prepare", lambda: None)
            return TextToVideo(prompt=generation)

        async def intact(archive: Archive) -> bool:
            return bool(await self.steps.effect("check files", lambda: self.is_intact(archive)))

        async def interrupted(submission: Submission) -> None:
            if cancels:
                await cancel_or_detach(self.client, journal, spec.key, submission.request_id, reason="cancelled")

        submission = await submit_once(
            self.client, journal, spec,
            prepare=prepare, intact=intact, on_uncertain=on_uncertain, on_interrupt=interrupted,
        )  # fmt: skip
        if submission.archive:
            return submission.archive
        try:
            async with record_outcome(journal, spec.key, submission.request_id):
                result = await self._waited(submission)
                await collect(self.client, submission.request_id)
        except asyncio.CancelledError:
            await interrupted(submission)
            raise
        return await self.archive(journal, spec.key, result)

    async def reconcile(self, generations: list[str], abandoned_after: float) -> None:
        """Do what the reconcile flow does."""
        journal = self.journal()
        for generation in generations:
            found = await journal.read(self.spec(generation).key)
            if found is None or found.entry.state not in {*OPEN, EntryState.CANCELLED}:
                continue
            finding = await reconcile_entry(
                self.client, journal, found, abandoned_after=timedelta(seconds=abandoned_after)
            )  # fmt: skip
            if finding.ready:
                key, request_id = finding.entry.generation_key, finding.entry.request_id or ""
                async with record_outcome(journal, key, request_id):
                    answer = await collect(self.client, request_id)
                result = Result(
                    request_id=request_id, output_count=1, noticed_at=START, queued_seconds=None, running_seconds=None,
                    polls=0, cost_usd=answer.cost_usd,
                )  # fmt: skip
                await self.archive(journal, key, result)

    async def archive(self, journal: Journal, key: str, result: Result) -> Archive:
        name = f"{result.request_id}.mp4"
        await self.steps.effect("write video", lambda: self._put(name))
        await self.steps.effect("write provenance", lambda: self._put(f"{name}.json"))
        video = ArchivedVideo(
            bucket="b", key=name, provenance_key=f"{name}.json", sha256="a" * 64, size_bytes=1,
            content_type="video/mp4", index=0, request_id=result.request_id,
            media=MediaFacts(container="mp4"), already_archived=False,
        )  # fmt: skip
        archive = Archive(result=result, videos=(video,))
        await record_archived(journal, key, result.request_id, archive)
        return archive

    async def _waited(self, submission: Submission) -> Result:
        clock = Clock(
            now=lambda: START + timedelta(seconds=self.now), monotonic=lambda: self.now, sleep=self.sleep,
            random=lambda: 0.0,
        )  # fmt: skip
        deadlines = Deadlines(queue_timeout_seconds=60, run_timeout_seconds=60)
        async for poll in poll_until_done(
            self.client, submission.request_id, deadlines=deadlines, polling=Polling(max_failures=3), clock=clock
        ):
            if poll.result is not None:
                return poll.result
        raise AssertionError("the waiting ended without a result")

    def is_intact(self, archive: Archive) -> bool:
        return all({video.key, video.provenance_key} <= self.bucket for video in archive.videos)

    def _put(self, name: str) -> None:
        if self.store_is_down:
            raise StoreUnavailable("The store is down.")
        self.bucket.add(name)

    # ---- the service

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        parts = request.url.path.split("/")
        if parts[2] == "models":
            prompt = json.loads(request.content)["prompt"]
            answer = await self.steps.effect("submit", lambda: self._submit(prompt))
        else:
            answer = await self.steps.effect(parts[4], lambda: self._call(parts[4], parts[3]))
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, httpx.Response)
        return answer

    def _submit(self, prompt: str) -> httpx.Response | Exception:
        fault = self.post_faults.popleft() if self.post_faults else "none"
        match fault:
            case "not sent":
                return httpx.ConnectError("x")
            case "refused":
                return httpx.Response(402, json=_NO)
            case "rate":
                return httpx.Response(429, json=_NO)
            case "broken":
                return httpx.Response(502, text="<html>")
        request = self._accept(prompt)
        match fault:
            case "lost":
                return httpx.ReadError("x")
            case "no id":
                return httpx.Response(200, json={})
            case "id and error":
                return httpx.Response(200, json={"request_id": request.id, "error_code": 500001})
            case "accepted and broken":
                return httpx.Response(504)
        return httpx.Response(200, json={"request_id": request.id})

    def _accept(self, generation: str) -> Request:
        worker = current_worker()
        assert worker is not None
        if worker.attempt is None:
            self.violations.append(f"{worker.name} submitted {generation} without an intent")
        plan = self.plans.popleft() if self.plans else "succeeded"
        new = Request(f"r{next(self._ids)}", generation, worker.attempt or 0, worker.traits.get("run", ""), plan)
        for old in (other for other in self.requests if other.generation == generation):
            first, second = (old, new) if old.attempt <= new.attempt else (new, old)
            if first.attempt == second.attempt:
                self.violations.append(f"attempt {new.attempt} of {generation} was paid for twice: {old} {new}")
            elif not first.ended_without_video and first.attempt not in self.allowed[generation]:
                self.violations.append(f"paid for again, and nobody allowed it: {first} {second}")
            elif first.run == second.run and not self.allowed[generation] & {*range(first.attempt, second.attempt)}:
                self.violations.append(f"one run paid twice: {first} {second}")
        self.requests.append(new)
        self.seen["paid"] += 1
        return new

    def _call(self, call: str, request_id: str) -> httpx.Response | Exception:
        fault = self.call_faults.popleft() if self.call_faults else "none"
        if fault == "reset":
            return httpx.ReadError("x")
        if fault == "busy":
            return httpx.Response(503)
        request = next((request for request in self.requests if request.id == request_id), None)
        if request is None or request.expired:
            return httpx.Response(404, json={"error_code": 404001})
        if call == "cancel":
            answer = self._cancel(request)
        else:
            if call == "status":
                self.goes_on(request)
            answer = self._answer(request, call)
        return httpx.ReadError("x") if fault == "lost" else answer

    def _cancel(self, request: Request) -> httpx.Response:
        if request.state == "in_queue":
            request.state = "cancelled"
            return httpx.Response(200, json={"outcome": "cancelled"})
        return httpx.Response(200, json={"outcome": "not_cancellable"})

    def goes_on(self, request: Request) -> None:
        if request.state == "in_queue" and request.plan != "stuck in queue":
            request.state = "in_progress"
        elif request.state == "in_progress" and request.plan != "stuck running":
            request.state = "failed" if request.plan == "failed" else "succeeded"

    def _answer(self, request: Request, call: str) -> httpx.Response:
        if call == "status":
            final = request.state in ("succeeded", "failed", "cancelled")
            return httpx.Response(200, json={"status": "completed" if final else request.state})
        output = {"video": "https://x.runcomfy.net/a.mp4"} if request.plan != "no output" else None
        return httpx.Response(200, json={"status": request.state, "output": output, "cost": 0.25})

    # ---- the witness

    def wrote(self, before: Entry | None, after: Entry) -> None:
        """Judge one write of the journal."""
        worker = current_worker()
        generation = str(after.inputs["prompt"])
        self.seen[after.state] += 1
        if after.state is EntryState.INTENT and worker is not None:
            worker.attempt = after.attempt
        if before is None:
            if (after.state, after.attempt) != (EntryState.INTENT, 1):
                self.violations.append(f"{generation} began as {after.state}")
            return
        if after.history[: len(before.history)] != before.history or len(after.history) == len(before.history):
            self.violations.append(f"history of {generation} did not grow: {before} {after}")
        if set(before.request_ids) - set(after.request_ids):
            self.violations.append(f"{generation} forgot a request: {before} {after}")
        if after.attempt != before.attempt:
            self._judge_new_attempt(worker, generation, before, after)
        if after.state is EntryState.RELEASED and before.state is not EntryState.RELEASED:
            if worker is None or worker.traits.get("role") != "person":
                self.violations.append(f"{generation} was released by itself")
            self.allowed[generation].add(after.attempt)
        if after.state is EntryState.SUBMITTED and worker and worker.traits.get("role") == "person":
            self.decided.add((generation, after.attempt))
        if after.state is EntryState.ARCHIVED and (after.archive is None or not self.is_intact(after.archive)):
            self.violations.append(f"{generation} is archived without its files")

    def _judge_new_attempt(self, worker: Worker | None, generation: str, before: Entry, after: Entry) -> None:
        if (after.attempt, after.state) != (before.attempt + 1, EntryState.INTENT):
            self.violations.append(f"{generation} went from attempt {before.attempt} to {after.attempt} {after.state}")
        if before.state is EntryState.UNCERTAIN and worker and worker.traits.get("on_uncertain") == "pay_again":
            self.allowed[generation].add(before.attempt)
        elif before.state not in RESTARTABLE:
            self.violations.append(f"{generation} was begun again while {before.state}")

    def judge(self) -> None:
        """Note what is forgotten: an accepted request that no entry knows or asks a person about."""
        submitting = {
            (str(worker.traits.get("generation")), worker.attempt)
            for worker in self.steps.workers
            if worker.alive and worker.attempt is not None
        }
        for request in self.requests:
            entry = self.entry(request.generation)
            if entry is None:
                self.violations.append(f"there is no entry of {request}")
                continue
            asked_about = (entry.attempt, entry.state) in {
                (request.attempt, EntryState.INTENT), (request.attempt, EntryState.UNCERTAIN),
            }  # fmt: skip
            known = request.id in entry.request_ids or request.attempt in self.allowed[request.generation]
            known = known or (request.generation, request.attempt) in self.decided
            if not known and not asked_about and (request.generation, request.attempt) not in submitting:
                self.violations.append(f"{request} is forgotten: {entry}")
        for worker in self.steps.workers:
            if not worker.alive:
                self._judge_end(worker)
        self.steps.workers = [worker for worker in self.steps.workers if worker.alive]

    def _judge_end(self, worker: Worker) -> None:
        error = worker.error()
        self.seen[type(error).__name__ if error else "finished"] += 1
        if isinstance(error, Exception) and not isinstance(error, RunComfyError):
            self.violations.append(f"{worker.name} ended with {error!r}")


class WitnessedStore:
    """A journal store in memory whose answers come late, or not at all, and whose clock is the world's."""

    def __init__(self, world: World) -> None:
        self.where = "the model"
        self.inner = MemoryJournalStore()
        self._world = world
        self._written: dict[str, float] = {}

    def check(self) -> None:
        self._answered(lambda: None)

    def read(self, name: str) -> Stored | None:
        return self._answered(lambda: self._aged(name))

    def create(self, name: str, body: bytes) -> str | None:
        return self._answered(lambda: self._write(name, body, None))

    def replace(self, name: str, body: bytes, tag: str) -> str | None:
        return self._answered(lambda: self._write(name, body, tag))

    def names(self, start: str = "") -> Iterator[str]:
        yield from self._answered(lambda: list(self.inner.names(start)))

    def modified(self) -> Iterator[tuple[str, datetime]]:
        yield from self._answered(lambda: list(self.inner.modified()))

    def _aged(self, name: str) -> Stored | None:
        found = self.inner.read(name)
        return Stored(found.body, found.tag, self._world.now - self._written[found.tag]) if found else None

    def _write(self, name: str, body: bytes, tag: str | None) -> str | None:
        before = self.inner.read(name)
        written = self.inner.create(name, body) if tag is None else self.inner.replace(name, body, tag)
        if written is not None:
            self._written[written] = self._world.now
            if not name.startswith("."):
                self._world.wrote(
                    Entry.model_validate_json(before.body) if before else None, Entry.model_validate_json(body)
                )
            return written
        return before.tag if before is not None and before.body == body else None  # done before, and the answer lost

    def _answered(self, effect: Callable[[], _T]) -> _T:
        blip = self._world.store_blips.popleft() if self._world.store_blips else ""
        if self._world.store_is_down or blip == "before":
            raise StoreUnavailable("The store could not be reached.")
        answer = effect()
        if blip == "after":
            raise StoreUnavailable("The store's answer was lost.")
        return answer
