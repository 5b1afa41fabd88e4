"""Measure an update of the catalogue: calls to the store, seconds and memory, with many generations there already.

Run `python -m benchmarks.catalogue [--generations 100000] [--new 100]` by hand. The store is a real one on
this machine, with an entry, a file and its provenance for each generation, spread over a year. Each update runs in a
process of its own, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
import uuid
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from rich.console import Console
from rich.table import Table

from runcomfy.archive.provenance import Provenance
from runcomfy.journal import BucketJournalStore, EntryState, GenerationSpec, Journal, JournalStore
from runcomfy.models import TextToVideo
from runcomfy.sandbox.objectstore import running_object_store
from runcomfy.storage.store import Store
from runcomfy.values import Archive, ArchivedVideo, MediaFacts, Result

__all__ = ["main"]

_MEDIA = MediaFacts(
    container="mp4", codec="h264", width=1280, height=720, frames=81, frames_per_second=16.0, duration_seconds=5.0625
)
_PROCESSES, _THREADS = 2, 8


def _write(store: Store, journal_store: JournalStore, number: int, begun: datetime) -> None:
    """Write what a generation leaves behind."""
    request_id = str(uuid.uuid4())
    inputs = TextToVideo(prompt=f"Scene {number}: snow begins to fall over the harbour at night", seed=number)
    entry = GenerationSpec(inputs, "https://service.example", store=store.uri(store.prefix)).intent("host:1")
    key = store.key(f"wan-ai/wan-2-1/text-to-video/{request_id}-0.mp4")
    facts: dict[str, Any] = {"sha256": uuid.uuid4().hex * 2, "size_bytes": 2_000_000, "content_type": "video/mp4"}
    video = ArchivedVideo(
        bucket=store.bucket, key=key, provenance_key=f"{key}.json", index=0, request_id=request_id, media=_MEDIA,
        already_archived=False, **facts,
    )  # fmt: skip
    result = Result(
        request_id=request_id, output_count=1, noticed_at=begun, queued_seconds=12.5, running_seconds=95.25, polls=9,
        cost_usd=0.25,
    )  # fmt: skip
    entry = entry.model_copy(update={"created_at": begun})
    entry = entry.moved(EntryState.SUBMITTED, worker="host:1", request_id=request_id, submitted_at=begun)
    archive = Archive(result=result, videos=(video,))
    entry = entry.moved(EntryState.ARCHIVED, worker="host:1", archive=archive, cost_usd=0.25)
    provenance = Provenance(
        model_id=inputs.model_id, request_id=request_id, generation_key=entry.generation_key, inputs=inputs.body(),
        cost_usd=0.25, uri=video.uri, output_index=0, source_host="files.example", media=_MEDIA, archived_at=begun,
        archiver="benchmark", **facts,
    )  # fmt: skip
    store.put(key, b"a video", content_type="video/mp4")
    store.put(video.provenance_key, provenance.to_json(), content_type="application/json")
    journal_store.create(f"{entry.generation_key}.json", entry.to_json())


def _write_all(endpoint_url: str, numbers: range, days: int) -> None:
    store = _store(endpoint_url)
    journal_store, began = BucketJournalStore(store), datetime.now(UTC) - timedelta(days=1)
    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(lambda n: _write(store, journal_store, n, began - timedelta(days=n % days)), numbers):
            pass


def _fill(endpoint_url: str, numbers: range, days: int) -> None:
    """Write generations in several processes, since one of them is kept busy by boto3."""
    shares = [numbers[start::_PROCESSES] for start in range(_PROCESSES)]
    with ProcessPoolExecutor(_PROCESSES, mp_context=multiprocessing.get_context("spawn")) as processes:
        for done in [processes.submit(_write_all, endpoint_url, share, days) for share in shares]:
            done.result()


def _store(endpoint_url: str) -> Store:
    return Store("videos", "bench", session=boto3.Session(region_name="us-east-1"), endpoint_url=endpoint_url)


async def _update(endpoint_url: str) -> dict[str, Any]:
    """Update once, in this process."""
    from runcomfy.catalogue import update

    store = _store(endpoint_url)
    calls: Counter[str] = Counter()
    store.client.meta.events.register(
        "before-send.s3",
        lambda request, **_: calls.update(["LIST" if "list-type=2" in request.url else request.method]),
    )
    at_rest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    found = await update(store, Journal(BucketJournalStore(store)))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "calls": dict(calls), "seconds": seconds, "peak_mb": peak / 1024, "extra_mb": (peak - at_rest) / 1024,
        "read": found.entries_read, "days": sum(day.written for day in found.days),
    }  # fmt: skip


def _measured(endpoint_url: str) -> dict[str, Any]:
    done = subprocess.run(  # noqa: S603 - this very program
        [sys.executable, "-m", "benchmarks.catalogue", "--update", endpoint_url],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generations", type=int, default=100_000)
    parser.add_argument("--new", type=int, default=100)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--update", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.update:
        print(json.dumps(asyncio.run(_update(asked.update))))
        return
    table = Table("update", "entries read", "days written", "calls", "seconds", "peak MB", "extra MB")

    def measure(name: str) -> None:
        found = _measured(url)
        made = ", ".join(f"{number:,} {method}" for method, number in sorted(found["calls"].items()))
        table.add_row(name, f"{found['read']:,}", f"{found['days']:,}", made, f"{found['seconds']:.1f}",
                      f"{found['peak_mb']:.0f}", f"{found['extra_mb']:.0f}")  # fmt: skip

    with running_object_store() as running:
        url = running.endpoint_url
        os.environ |= {"AWS_ACCESS_KEY_ID": running.access_key, "AWS_SECRET_ACCESS_KEY": running.secret_key}
        _fill(url, range(asked.generations), asked.days)
        time.sleep(3)  # what was written within two seconds is read once more
        measure(f"first, of {asked.generations:,}")
        measure("nothing new")
        _fill(url, range(asked.generations, asked.generations + asked.new), 1)
        time.sleep(3)
        measure(f"{asked.new:,} new, of one day")
        measure("nothing new")
    Console().print(table)


if __name__ == "__main__":
    main()
