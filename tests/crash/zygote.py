"""A program that runs flows, or the command, in processes of their own, without importing Prefect for each of them.

It imports everything once, starts no thread, and then forks for every job that it reads, a JSON object a line. Each
child is a process like any other: it runs one flow, writes how that ended into a file, and can be killed before.
`python -m tests.crash.zygote once` does a single job in this very process: a fresh interpreter, nothing forked.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import importlib
import inspect
import io
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr

from blocks import MediaStore, RunComfyCredentials
from flows.fetch_request import fetch_request
from flows.generate import generate
from flows.image_to_video import image_to_video
from flows.parameters import GivenInputs, ImageSource
from flows.text_to_video import text_to_video
from runcomfy.cli.__main__ import main as command
from runcomfy.errors import RunComfyError
from runcomfy.policy import Polling
from runcomfy.values import ArchivedVideo, Generation

_QUICK = Polling(min_interval_seconds=0.05, default_interval_seconds=0.05)
_SHOWS_WHERE_IT_STANDS_AFTER_SECONDS = 890  # a little before those who wait for it time out
_OTHERWISE_IMPORTED_LATE = (
    "anyio._backends._asyncio", "boto3.s3.inject", "fastapi.applications", "prefect.task_engine",
    "prefect.utilities.visualization",
)  # fmt: skip


def main() -> None:
    """Do one job, or fork for every line until the input ends."""
    if sys.argv[1:] == ["once"]:
        _work(json.loads(sys.stdin.readline()))
    for module in _OTHERWISE_IMPORTED_LATE:
        importlib.import_module(module)
    gc.freeze()  # a child does not copy what it only reads
    signal.signal(signal.SIGCHLD, lambda *_: _reap())
    for line in sys.stdin:
        _fork(json.loads(line))


def _fork(job: dict[str, Any]) -> None:
    """Start a child and report its pid; a child that has ended is reported after that."""
    if threading.active_count() != 1 or len(list(Path("/proc/self/task").iterdir())) != 1:
        raise RuntimeError("A process with threads is not forked.")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        _work(job)
    _say({"job": job["number"], "pid": pid})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _reap() -> None:
    """Report every child that has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _say({"pid": pid, "status": os.waitstatus_to_exitcode(status)})


def _say(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")  # whole at once: a signal handler writes as well


def _work(job: dict[str, Any]) -> None:
    """Run the flow of a job, write its outcome, and end this process."""
    log = os.open(f"{job['outcome']}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    os.environ.update(job["environment"])
    faulthandler.dump_traceback_later(_SHOWS_WHERE_IT_STANDS_AFTER_SECONDS)
    outcome: dict[str, Any]
    try:
        outcome = {"value": asyncio.run(_flow(job))} if job["by"] == "prefect" else _command(job)
    except RunComfyError as error:
        facts = {name: str(fact) for name, fact in error.facts.items()}
        outcome = {"error": type(error).__name__, "message": error.message, "facts": facts}
    except BaseException as error:
        traceback.print_exc()
        outcome = {"error": type(error).__name__, "message": str(error), "facts": {}}
    written = Path(f"{job['outcome']}.new")
    written.write_text(json.dumps(outcome), encoding="utf-8")
    written.rename(job["outcome"])
    os._exit(0)


def _show_tasks() -> None:
    """Print where every task of the loop is, down to what it awaits."""
    for task in asyncio.all_tasks():
        print(task.get_name())
        awaited: Any = task.get_coro()
        while awaited is not None:
            frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
            where = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}" if frame else repr(awaited)
            print(f"  {where}")
            inner = next(filter(inspect.isasyncgen, gc.get_referents(awaited)), None)  # of its `asend`
            awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None) or inner
    sys.stdout.flush()


async def _flow(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the flow, and return what is known of its videos."""
    asyncio.get_running_loop().call_later(_SHOWS_WHERE_IT_STANDS_AFTER_SECONDS, _show_tasks)
    account, store = account_of(job["account"]), store_of(job["store"])
    match job["flow"]:
        case "image-to-video":
            done: Generation | list[ArchivedVideo] = await image_to_video(
                ImageSource(job["image"]), job["prompt"], account, store, polling=_QUICK
            )
        case "generate":
            inputs = GivenInputs({"prompt": job["prompt"]})
            done = await generate(job["model_id"], inputs, account, store, polling=_QUICK)
        case "text-to-video":
            done = await text_to_video(job["prompt"], account, store, polling=_QUICK)
        case _:
            done = await fetch_request(job["request_id"], job["model_id"], account, store)
    return [video.model_dump(mode="json") for video in (done.videos if isinstance(done, Generation) else done)]


def _command(job: dict[str, Any]) -> dict[str, Any]:
    """Run the command in this process, and return what it printed; its exit code is that of its error."""
    account, store = job["account"], job["store"]
    os.environ.update(
        RUNCOMFY_API_TOKEN=account["token"],
        RUNCOMFY_BASE_URL=f"http://{account['host']}",
        RUNCOMFY_OUTPUT_HOSTS=account["host"],
        RUNCOMFY_JOURNAL_PATIENCE_SECONDS=str(store["patience_seconds"]),
        RUNCOMFY_PUBLIC_ENDPOINT_URL=store["public_endpoint_url"],
        AWS_ACCESS_KEY_ID=store["access_key"],
        AWS_SECRET_ACCESS_KEY=store["secret_key"],
        AWS_DEFAULT_REGION="us-east-1",
        AWS_ENDPOINT_URL_S3=store["endpoint_url"],
    )
    given = {
        "image-to-video": [job["image"], job["prompt"]],
        "text-to-video": [job["prompt"]],
        "fetch": [job["request_id"], "--model", job["model_id"]],
        "generate": [job["model_id"], "--prompt", job["prompt"]],
    }
    words = [job["flow"], *given[job["flow"]], "--bucket", f"s3://{store['bucket']}/{store['prefix']}", "--json"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        command(words)
    said = json.loads(printed.getvalue())
    if "error" in said:
        facts = {name: str(fact) for name, fact in said.items() if name not in ("error", "message", "exit_code")}
        return {"error": said["error"], "message": said["message"], "facts": facts}
    return {"value": said["videos"]}


def account_of(facts: Mapping[str, Any]) -> RunComfyCredentials:
    """Return the account that a job names."""
    return RunComfyCredentials(
        api_token=SecretStr(facts["token"]), base_url=f"http://{facts['host']}", output_hosts=[facts["host"]]
    )


def store_of(facts: Mapping[str, Any]) -> MediaStore:
    """Return the bucket that a job names."""
    keys = AwsCredentials(
        aws_access_key_id=facts["access_key"],
        aws_secret_access_key=SecretStr(facts["secret_key"]),
        region_name="us-east-1",
        aws_client_parameters=AwsClientParameters(endpoint_url=facts["endpoint_url"]),
    )
    return MediaStore(
        bucket=facts["bucket"],
        prefix=facts["prefix"],
        credentials=keys,
        public_endpoint_url=facts["public_endpoint_url"] or "",
        journal_patience_seconds=facts["patience_seconds"],
    )


if __name__ == "__main__":
    main()
