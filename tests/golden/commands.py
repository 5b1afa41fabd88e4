"""The command line in this process, each command with `--json`, on a bucket and an account that it fills itself."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect_aws import AwsCredentials

from blocks import MediaStore, RunComfyCredentials
from flows.text_to_video import text_to_video
from runcomfy.cli.__main__ import main
from runcomfy.journal import BucketJournalStore, EntryState, GenerationSpec, Journal
from runcomfy.models import TextToVideo
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store
from tests.golden.comparing import shape

__all__ = ["environment", "printed", "said"]


@contextlib.contextmanager
def environment(sandbox: Sandbox, object_store: ObjectStore, prefix: str) -> Iterator[None]:
    """Set what the commands read from their environment."""
    set_to = {
        "RUNCOMFY_API_TOKEN": sandbox.token,
        "RUNCOMFY_BASE_URL": sandbox.url,
        "RUNCOMFY_OUTPUT_HOSTS": sandbox.host,
        "RUNCOMFY_BUCKET": f"s3://videos/{prefix}",
        "AWS_ENDPOINT_URL_S3": object_store.endpoint_url,
        "AWS_ACCESS_KEY_ID": object_store.access_key,
        "AWS_SECRET_ACCESS_KEY": object_store.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RUNCOMFY_TOKEN", "RUNCOMFY_JOURNAL", "AWS_PROFILE"):
            patch.delenv(name, raising=False)
        for name, value in set_to.items():
            patch.setenv(name, value)
        yield


def said(*words: str) -> tuple[int, dict[str, Any]]:
    """Run a command with `--json`; return its exit code, and the one object that is all of stdout."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
        try:
            code = main([*words, "--json"])
        except SystemExit as ended:
            code = int(str(ended.code))
    return code, dict(json.loads(out.getvalue()))


def printed(sandbox: Sandbox, object_store: ObjectStore, folder: Path) -> dict[str, Any]:
    """Return of each command the exit code with which it ended, and the keys of what it printed.

    Args:
        sandbox: The service.
        object_store: The bucket's server.
        folder: Where a manifest and a page may be written.
    """
    prefix = f"test-{uuid.uuid4().hex}"
    store = Store("videos", prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url)
    manifest = folder / "manifest.jsonl"
    manifest.write_text('{"prompt": "rain"}\n')  # archived already by then: no poll has to be waited for
    found: dict[str, Any] = {}

    def note(*words: str, name: str | None = None) -> dict[str, Any]:
        code, document = said(*words)
        found[name or words[0]] = {"exit_code": code, "keys": shape(document)}
        return document

    with environment(sandbox, object_store, prefix):
        made = note("text-to-video", "rain")
        of_flow = asyncio.run(_by_flow("fog", sandbox, object_store, prefix))
        note("status", made["request_id"])
        note("fetch", made["request_id"])
        note("balance")
        note("batch", str(manifest))
        sandbox.hold()
        try:
            note("cancel", submitted(sandbox, "snow"))
        finally:
            sandbox.release()
        lost = [uncertain(store, sandbox, prompt) for prompt in ("thunder", "lightning")]
        note("journal", "list", name="journal list")
        note("journal", "show", of_flow, name="journal show")
        note("journal", "adopt", lost[0], submitted(sandbox, "thunder"), name="journal adopt")
        note("journal", "release", lost[1], "--yes", name="journal release")
        note("reconcile")
        note("inbox", f"s3://videos/{prefix}/arrivals")
        note("catalogue")
        note("report", "--output", str(folder / "page.html"))
        note("init", str(folder / "project"))
        note("doctor")
        found["doctor"].pop("exit_code")  # that of its environment
        for verb in ("accept", "reject"):
            prompt = f"{verb} it [sandbox: output=black]"
            aside = note("text-to-video", prompt, "--on-defect", "set_aside", name="text-to-video set aside")
            note("review", "list", name="review list")
            note("review", verb, aside["generation"], name=f"review {verb}")
        note("text-to-video", "rain", "--num-frames", "80", name="an error of the input")
        note("status", "no-such-request", name="an error of the service")
    return found


async def _by_flow(prompt: str, sandbox: Sandbox, object_store: ObjectStore, prefix: str) -> str:
    """Make a video by the flow, whose run the journal records, and return the generation's key."""
    account = RunComfyCredentials(api_token=sandbox.token, base_url=sandbox.url, output_hosts=[sandbox.host])
    keys = AwsCredentials(aws_access_key_id=object_store.access_key, aws_secret_access_key=object_store.secret_key)
    store = MediaStore(bucket="videos", prefix=prefix, credentials=keys, endpoint_url=object_store.endpoint_url)
    generation = await text_to_video(prompt, account, store)
    return str(generation.submission.generation_key)


def submitted(sandbox: Sandbox, prompt: str) -> str:
    """Submit a request as another program would, and return its id."""
    answer = httpx.post(
        f"{sandbox.url}/v1/models/{TextToVideo.model_id}",
        headers={"Authorization": f"Bearer {sandbox.token}"},
        json={"prompt": prompt},
    )
    return str(answer.raise_for_status().json()["request_id"])


def uncertain(store: Store, sandbox: Sandbox, prompt: str) -> str:
    """Write a generation of which it is unknown whether it was accepted, and return its key."""
    entry = GenerationSpec(TextToVideo(prompt=prompt), sandbox.url).intent("host:1")
    lost = entry.moved(EntryState.UNCERTAIN, worker="host:1", reason="The connection broke.")
    asyncio.run(Journal(BucketJournalStore(store)).create(lost))
    return lost.generation_key
