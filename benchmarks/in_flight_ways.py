"""One way of having many generations in flight, in a process of its own: `python -m benchmarks.in_flight_ways JSON`.

Prints what it took of this process as one line of JSON. Each prompt says how long its request runs, so that every way
meets the same jobs; the sandbox renders one video for all of them.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx
from pydantic import SecretStr

from runcomfy.api.client import RunComfyClient
from runcomfy.api.rate_limit import RateLimiter
from runcomfy.api.requests import collect
from runcomfy.archive.archive import archive_output
from runcomfy.download.hosts import HostPolicy
from runcomfy.journal import BucketJournalStore, GenerationSpec, Journal, submit_once
from runcomfy.journal.record import record_archived
from runcomfy.models import TEXT_TO_VIDEO, TextToVideo, workload_of
from runcomfy.polling.forecast import RunTimes
from runcomfy.polling.poll import poll_until_done
from runcomfy.storage.store import Store
from runcomfy.values import Archive, GenerationFacts, Result

if TYPE_CHECKING:
    from blocks import MediaStore, RunComfyCredentials

__all__ = ["WAYS", "Surroundings", "main"]

_SUBMITTING_AT_ONCE = 32
_SAMPLE_SECONDS = 0.01
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Surroundings:
    """Where the service and the store are, and the load to make."""

    url: str
    token: str
    endpoint_url: str
    access_key: str
    secret_key: str
    prefix: str
    generations: int
    run_seconds: float
    spread: float
    at_once: int
    calls_per_second: float

    def run_times(self) -> list[float]:
        """How long each request is to run: the same for every way."""
        draws = random.Random(7)  # noqa: S311 - repeatable on purpose
        return [self.run_seconds * draws.lognormvariate(0, self.spread) for _ in range(self.generations)]

    def prompts(self) -> list[str]:
        """A prompt for each; the number makes it a generation of its own, and is not drawn into the video."""
        return [
            f"a lighthouse [sandbox: run_seconds={seconds + number * 1e-9:.9f}]"
            for number, seconds in enumerate(self.run_times())
        ]

    def store(self) -> Store:
        """The bucket."""
        return Store("videos", self.prefix, session=self.session(), endpoint_url=self.endpoint_url)

    def blocks(self) -> tuple[RunComfyCredentials, MediaStore]:
        """The account and the bucket, as flows take them."""
        from prefect_aws import AwsCredentials
        from prefect_aws.client_parameters import AwsClientParameters

        from blocks import MediaStore, RunComfyCredentials

        keys = AwsCredentials(
            aws_access_key_id=self.access_key, aws_secret_access_key=SecretStr(self.secret_key),
            region_name="us-east-1", aws_client_parameters=AwsClientParameters(endpoint_url=self.endpoint_url),
        )  # fmt: skip
        host = self.url.removeprefix("http://")
        account = RunComfyCredentials(
            api_token=SecretStr(self.token), base_url=self.url, output_hosts=[host],
            calls_per_second=self.calls_per_second,
        )  # fmt: skip
        return account, MediaStore(bucket="videos", prefix=self.prefix, credentials=keys)

    def session(self) -> boto3.Session:
        """The keys of the store."""
        return boto3.Session(self.access_key, self.secret_key, region_name="us-east-1")


async def _floor(where: Surroundings) -> None:
    """Bare httpx: submit, sleep exactly until it is done, read the file, put it into the bucket."""
    client, store = where.session().client("s3", endpoint_url=where.endpoint_url), where.store()
    submitting, fetching = asyncio.Semaphore(_SUBMITTING_AT_ONCE), asyncio.Semaphore(_SUBMITTING_AT_ONCE)
    headers = {"Authorization": f"Bearer {where.token}"}
    async with httpx.AsyncClient(timeout=60) as http:

        async def one(prompt: str, seconds: float) -> None:
            async with submitting:
                url = f"{where.url}/v1/models/{TEXT_TO_VIDEO}"
                sent = (await http.post(url, headers=headers, json={"prompt": prompt})).raise_for_status().json()
            await asyncio.sleep(seconds + 0.05)
            async with fetching:
                answer: dict[str, Any] = {}
                while "output" not in answer:
                    answer = (await http.get(sent["result_url"], headers=headers)).json()
                    await asyncio.sleep(0.0 if "output" in answer else 0.05)
                video = (await http.get(answer["output"]["video"])).raise_for_status().content
                key = f"{store.prefix}/{sent['request_id']}.mp4"
                await asyncio.to_thread(client.put_object, Bucket=store.bucket, Key=key, Body=video)

        async with asyncio.TaskGroup() as group:
            for prompt, seconds in zip(where.prompts(), where.run_times(), strict=True):
                group.create_task(one(prompt, seconds))


async def _engine(where: Surroundings) -> None:
    """The engine under asyncio, without Prefect: journal, `submit_once`, `poll_until_done`, `archive_output`."""
    store = where.store()
    slots = asyncio.Semaphore(where.at_once)
    journal, times, submitting = Journal(BucketJournalStore(store)), RunTimes(), asyncio.Semaphore(_SUBMITTING_AT_ONCE)
    hosts = HostPolicy(allowed=(where.url.removeprefix("http://"),))

    async def intact(archive: Archive) -> bool:
        return True

    async with RunComfyClient(
        where.token, base_url=where.url, rate_limiter=RateLimiter(where.calls_per_second)
    ) as client:

        async def one(prompt: str) -> None:
            async with slots:
                await generate(prompt)

        async def generate(prompt: str) -> None:
            inputs = TextToVideo(prompt=prompt)

            async def prepare() -> TextToVideo:
                return inputs

            async with submitting:
                spec = GenerationSpec(inputs, client.base_url)
                submission = await submit_once(client, journal, spec, prepare=prepare, intact=intact)
            result: Result | None = None
            async for poll in poll_until_done(
                client, submission.request_id, submitted_at=submission.submitted_at,
                workload=workload_of(inputs.model_id, inputs.body()), run_times=times,
            ):  # fmt: skip
                result = poll.result
            answer = await collect(client, submission.request_id)
            facts = GenerationFacts(model_id=inputs.model_id, request_id=answer.request_id)
            video = await archive_output(answer.outputs[0], 0, facts, store, hosts=hosts)
            if result is not None:
                archive = Archive(result=result, videos=(video,))
                await record_archived(journal, submission.generation_key, submission.request_id, archive)

        async with asyncio.TaskGroup() as group:
            for prompt in where.prompts():
                group.create_task(one(prompt))


def _flow() -> Callable[[Surroundings], Coroutine[Any, Any, None]]:
    from flows.batch import batch

    async def run(where: Surroundings) -> None:
        """The flow `batch`."""
        account, store = where.blocks()
        with tempfile.TemporaryDirectory() as folder:
            manifest = Path(folder) / "manifest.csv"
            with manifest.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([["prompt"], *([prompt] for prompt in where.prompts())])
            await batch(str(manifest), account, store, at_once=where.at_once)

    return run


WAYS: dict[str, Callable[[], Callable[[Surroundings], Coroutine[Any, Any, None]]]] = {
    "floor": lambda: _floor,
    "engine": lambda: _engine,
    "batch": _flow,
}


async def _lag(worst: list[float]) -> None:
    """Record how late a short sleep ends: how long the event loop was busy with something else."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(_SAMPLE_SECONDS)
        worst.append(time.perf_counter() - began - _SAMPLE_SECONDS)


async def _memory(after_seconds: float, seen: list[int]) -> None:
    await asyncio.sleep(after_seconds)
    seen.append(_resident_bytes())


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES


def main() -> None:
    """Run one way, and print what it took."""
    wanted = json.loads(sys.argv[1])
    way = WAYS[wanted.pop("way")]()
    where = Surroundings(**wanted)

    async def measured() -> dict[str, Any]:
        lags: list[float] = []
        waiting: list[int] = []
        monitors = [
            asyncio.create_task(_lag(lags)), asyncio.create_task(_memory(0.75 * where.run_seconds, waiting)),
        ]  # fmt: skip
        empty, used, began = _resident_bytes(), time.process_time(), time.monotonic()
        await way(where)
        seconds, processor = time.monotonic() - began, time.process_time() - used
        for task in monitors:
            task.cancel()
        lags.sort()
        return {
            "seconds": seconds,
            "processor_seconds": processor,
            "waiting_bytes": (waiting[0] if waiting else _resident_bytes()) - empty,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - empty,
            "lag_p99_seconds": lags[int(0.99 * len(lags))],
            "lag_worst_seconds": lags[-1],
        }

    print(json.dumps(asyncio.run(measured())))


if __name__ == "__main__":
    main()
