"""Measure what the journal costs: calls to the store and time, for each generation, against doing without it.

Run `python -m benchmarks.journal [--generations 50]` by hand. The service is the sandbox and the store a real one, both
on this machine; the same generations run with the journal in the bucket, and in memory (without it).
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from runcomfy.api.client import RunComfyClient
from runcomfy.journal import (
    BucketJournalStore,
    GenerationSpec,
    Journal,
    JournalStore,
    memory_journal_store,
    submit_once,
)
from runcomfy.journal.record import record_archived
from runcomfy.models import TextToVideo
from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.sandbox.objectstore import running_object_store
from runcomfy.storage.store import Store
from runcomfy.values import Archive, Result, Submission

__all__ = ["main"]


async def _intact(archive: Archive) -> bool:
    return True


def _result(submission: Submission) -> Result:
    return Result(
        request_id=submission.request_id, output_count=0, noticed_at=datetime.now(UTC),
        queued_seconds=None, running_seconds=None, polls=0,
    )  # fmt: skip


async def _generation(client: RunComfyClient, journal: Journal, prompt: str) -> list[float]:
    """Go through the journal's part of a generation; the milliseconds of submitting, of archiving, of a second run."""
    inputs = TextToVideo(prompt=prompt)

    async def prepare() -> TextToVideo:
        return inputs

    async def submit() -> Submission:
        spec = GenerationSpec(inputs, client.base_url)
        return await submit_once(client, journal, spec, prepare=prepare, intact=_intact)

    began = time.perf_counter()
    submission = await submit()
    submitted = time.perf_counter()
    archive = Archive(result=_result(submission), videos=())
    await record_archived(journal, submission.generation_key, submission.request_id, archive)
    archived = time.perf_counter()
    await submit()
    return [1000 * (b - a) for a, b in ((began, submitted), (submitted, archived), (archived, time.perf_counter()))]


async def _measure(sandbox: Sandbox, store: JournalStore, name: str, count: int) -> list[float]:
    async with RunComfyClient(sandbox.token, base_url=sandbox.url) as client:
        journal = Journal(store)
        await journal.check()
        await _generation(client, journal, f"{name} warm")
        rows = [await _generation(client, journal, f"{name} {number}") for number in range(count)]
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generations", type=int, default=50)
    count = parser.parse_args().generations
    table = Table("journal", "calls to the store", "submit ms", "archive ms", "run again ms", "x without")
    settings = SandboxSettings(run_seconds=0.0, tiny_videos=True)
    with running_object_store() as running, Sandbox(settings) as sandbox:
        store = Store("videos", "bench", session=running.session(), endpoint_url=running.endpoint_url)
        calls: Counter[str] = Counter()

        def count_call(request: Any, **_: Any) -> None:
            calls[request.method] += 1

        store.client.meta.events.register("before-send.s3", count_call)
        stores: dict[str, Callable[[], JournalStore]] = {
            "none (memory)": lambda: memory_journal_store("bench"),
            "bucket": lambda: BucketJournalStore(store),
        }
        floor = 0.0
        for name, journal_store in stores.items():
            calls.clear()
            submit, archive, again = asyncio.run(_measure(sandbox, journal_store(), name, count))
            floor = floor or submit + archive
            made = ", ".join(f"{number / (count + 1):.1f} {method}" for method, number in sorted(calls.items())) or "0"
            ratio = f"{(submit + archive) / floor:.1f}"
            table.add_row(name, made, f"{submit:.1f}", f"{archive:.1f}", f"{again:.1f}", ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
