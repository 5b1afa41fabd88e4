"""The demo's one run, a process of `demo`: start the servers, run the flow, copy the files out, print a table."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import TaskRun
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from blocks import MediaStore, RunComfyCredentials
from flows.image_to_video import image_to_video
from flows.parameters import ImageSource
from runcomfy.errors import RunComfyError
from runcomfy.policy import Polling
from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.sandbox.objectstore import ObjectStore, running_object_store
from runcomfy.values import Generation

__all__ = ["run"]

_RECORDED_WITHIN_SECONDS = 20


async def run(image: str, prompt: str, output: Path, scratch: Path) -> None:
    """Run the flow once, copy what it archived into `output`, and print what happened."""
    with (
        running_object_store(scratch / "s3") as server,
        Sandbox(SandboxSettings(queue_seconds=4, run_seconds=5)) as sandbox,
    ):
        account = RunComfyCredentials(
            api_token=SecretStr(sandbox.token), base_url=sandbox.url, output_hosts=[sandbox.host]
        )
        store = _media_store(server)
        state = await image_to_video(
            ImageSource(image),
            prompt,
            account,
            store,
            polling=Polling(min_interval_seconds=0.5, default_interval_seconds=0.5),
            return_state=True,
        )
        generation: Generation = await state.aresult()
        tasks = await _recorded_tasks(state.state_details.flow_run_id)
        files = [await asyncio.to_thread(_copy, store, key, output) for key in _keys(generation)]
    _print(generation, tasks, files)


def _media_store(server: ObjectStore) -> MediaStore:
    credentials = AwsCredentials(
        aws_access_key_id=server.access_key,
        aws_secret_access_key=SecretStr(server.secret_key),
        region_name="us-east-1",
        aws_client_parameters=AwsClientParameters(endpoint_url=server.endpoint_url),
    )
    return MediaStore(bucket="videos", prefix="demo", credentials=credentials)


def _keys(generation: Generation) -> list[str]:
    return [key for video in generation.videos for key in (video.key, video.provenance_key)]


def _copy(store: MediaStore, key: str, output: Path) -> Path:
    target = output / key.rpartition("/")[2]
    output.mkdir(parents=True, exist_ok=True)
    target.write_bytes(store.get_store().read(key, limit_bytes=2**31))
    return target


async def _recorded_tasks(flow_run_id: UUID | None) -> list[TaskRun]:
    """Return the run's tasks as Prefect recorded them, which it does a little later than they happen."""
    if flow_run_id is None:
        return []
    tasks: list[TaskRun] = []
    async with get_client() as client:
        for _ in range(_RECORDED_WITHIN_SECONDS * 2):
            tasks = await client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])))
            if len(tasks) >= 4 and all(task.state and task.state.is_final() for task in tasks):
                break
            await asyncio.sleep(0.5)
    return sorted((task for task in tasks if task.start_time), key=lambda task: str(task.start_time))


def _print(generation: Generation, tasks: list[TaskRun], files: list[Path]) -> None:
    result, console = generation.result, Console(soft_wrap=True)
    moved = {"stage": _staged_bytes(generation), "archive": sum(video.size_bytes for video in generation.videos)}
    stages = Table(title="What happened", title_justify="left")
    stages.add_column("stage")
    stages.add_column("seconds", justify="right")
    stages.add_column("bytes", justify="right")
    for task in tasks:
        size = moved.get(task.name.split()[0])
        stages.add_row(task.name, f"{task.total_run_time.total_seconds():.1f}", f"{size:,}" if size else "")
    console.print(stages)
    facts = Table(show_header=False, box=None)
    facts.add_row("request", generation.submission.request_id)
    facts.add_row("in the queue", f"{result.queued_seconds:.1f} s")
    facts.add_row("running", f"{result.running_seconds:.1f} s; polled {result.polls} times")
    facts.add_row("cost", f"{result.cost_usd} USD, the sandbox's made-up price")
    for video in generation.videos:
        media = video.media
        facts.add_row(
            "video", f"{media.width} x {media.height}, {media.frames} frames, {media.duration_seconds} s, {media.codec}"
        )
    console.print(facts)
    for file in files:
        console.print(f" file          {file}", markup=False, highlight=False)


def _staged_bytes(generation: Generation) -> int:
    return generation.image.size_bytes if generation.image else 0


if __name__ == "__main__":
    _image, _prompt, _output, _scratch = sys.argv[1:]
    try:
        asyncio.run(run(_image, _prompt, Path(_output), Path(_scratch)))
    except RunComfyError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    finally:
        shutil.rmtree(_scratch, ignore_errors=True)
