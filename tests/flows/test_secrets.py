"""No token, secret key or signed URL ends up anywhere: logs, results, artifacts, provenance, Prefect's database.

Nor is there anything in Prefect's log that only a programmer reads, or in the bucket that names a path of the machine.
"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.sandbox.render import Recipe, render

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SIGNATURES = re.compile(
    rb"X-Amz-Signature(=|%3D)(?!\[redacted)[0-9a-f]{8}|Signature:?\s*=?\s*[0-9a-f]{32}|X-Amz-Credential=(?!\[redacted)\w"
)

RAW = re.compile(
    r"NoneType: None|<[\w.]+ object at 0x|=<\w+\.\w+: |\{'\w+': |\w+Error\(['\"]|Outcome\(|Decimal\(|datetime\.\w+\("
)
"""What Python writes of its objects."""

# Every logger is at DEBUG, on the console and into Prefect's own log; results are persisted.
PROGRAM = """
import asyncio, logging, os, pathlib, sys
logging.basicConfig(level=logging.DEBUG)
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from blocks import MediaStore, RunComfyCredentials
from flows.batch import batch
from flows.fetch_request import fetch_request
from flows.parameters import ImageSource
from flows.image_to_video import image_to_video
from flows.reconcile import reconcile
from flows.text_to_video import text_to_video
from prefect import flow
from runcomfy.models import IMAGE_TO_VIDEO
from runcomfy.policy import Polling
from tasks.pages.failure import failure_shown

env = os.environ
account = RunComfyCredentials(api_token=env["TOKEN"], base_url=env["URL"], output_hosts=[env["HOST"]])
wrong = RunComfyCredentials(api_token="wrong-" + env["TOKEN"], base_url=env["URL"], output_hosts=[env["HOST"]])
keys = AwsCredentials(aws_access_key_id=env["KEY"], aws_secret_access_key=env["SECRET"], region_name="us-east-1",
    aws_client_parameters=AwsClientParameters(endpoint_url=env["ENDPOINT"]))
store = MediaStore(bucket="videos", prefix=env["PREFIX"], credentials=keys)
quick = Polling(min_interval_seconds=0.05, default_interval_seconds=0.05)

async def attempt(run):
    try:
        await run
    except Exception as error:
        print(type(error).__name__, error)

@flow
async def told(picture, prompt):
    async with failure_shown(store, IMAGE_TO_VIDEO):
        await image_to_video(picture, prompt, account, store, polling=quick)

async def main():
    picture = ImageSource(env["PICTURE"])
    await attempt(told(picture, "told [sandbox: result=error_echoes_url]"))
    await attempt(told(picture, "told [sandbox: submit=lost_answer]"))
    await attempt(reconcile(account, store, abandoned_after_seconds=0))
    for number, fault in enumerate(["", "result=error_echoes_url", "output=truncated", "output=http_403",
            "output=redirect", "result=echoes_inputs", "status=http_503:times=2", "submit=lost_answer"]):
        mark = f"{number} [sandbox: {fault}]" if fault else ""
        await attempt(image_to_video(picture, f"boat {mark}", account, store, polling=quick))
        await attempt(text_to_video(f"rain {mark}", account, store, polling=quick))
    await attempt(text_to_video("rain", wrong, store))
    signed = ImageSource("https://127.0.0.1:9/a.png?X-Amz-Signature=0123456789abcdef")
    await attempt(image_to_video(signed, "boat", account, store))
    await attempt(fetch_request("no-such-request", "wan-ai/wan-2-1/text-to-video", account, store))
    file, unread = env["PICTURE"], "https://127.0.0.1:9/a.png?X-Amz-Signature=0123456789abcdef"
    manifest = pathlib.Path(env["PREFECT_HOME"]).parent / "manifest.csv"
    for rows in ([f"sea,{file}", f"sea [sandbox: result=failed],{file}"], [f"sea,{unread}"]):
        manifest.write_text("\\n".join(["prompt,image", *rows]))
        await attempt(batch(str(manifest), account, store, polling=quick))
        manifest.unlink()
    await asyncio.sleep(3)  # Prefect sends its log and records its runs a little later

asyncio.run(main())
"""


ANY_MODEL = (
    PROGRAM[: PROGRAM.index("@flow")]
    + """
from flows.generate import generate
from flows.parameters import GivenInputs

MEDIA = {kind: env[kind.upper()] for kind in ("image", "video", "audio")}

def uri(kind):
    key = f"{env['PREFIX']}-given/{kind}{pathlib.Path(MEDIA[kind]).suffix}"
    store.get_store().client.upload_file(MEDIA[kind], "videos", key)
    return f"s3://videos/{key}"

async def main():
    given = {kind: [path, uri(kind)] for kind, path in MEDIA.items()}
    signed = "https://127.0.0.1:9/a.png?X-Amz-Signature=0123456789abcdef"
    faults = ["", "result=error_echoes_url"]
    async def make(model, **inputs):
        await attempt(generate(model, GivenInputs(inputs), account, store, polling=quick))
    for number, fault in enumerate(faults):
        mark = f"{number} [sandbox: {fault}]" if fault else "plain"
        await make("wan-ai/wan-2.7/edit", prompt=f"snow {mark}", image_urls=given["image"])
        await make("elevenlabs/elevenlabs/music-generation", prompt=f"piano {mark}")
        await make("bytedance/seedance-2.0/pro", prompt=f"fox {mark}", images=given["image"], videos=given["video"][1:],
            audios=given["audio"])
        await make("lightricks/ltx-2.5/audio-to-video/fast", prompt=f"song {mark}", audio_url=given["audio"][0])
        await make("wan-ai/wan-2.7/edit-video", prompt=f"rain {mark}", video_url=given["video"][number % 2])
    await make("wan-ai/wan-2.7/edit", prompt="x [sandbox: submit=lost_answer]", image_urls=given["image"])
    await make("kling/kling/lipsync/audio-to-video", video_url=given["video"][0], audio_url=given["audio"][1])
    frames = [{"image_url": signed, "time": 1}]
    await make("blackforestlabs/flux-3/keyframes-to-video", prompt="x", keyframes=frames)
    await make("blackforestlabs/flux-3/keyframes-to-video", prompt="x", keyframes=[[[{"deep": [signed]}]]])
    for model, field in (("wan-ai/wan-2.7/edit", "image_urls"), ("kling/kling/lipsync/audio-to-video", "audio_url"),
            ("wan-ai/wan-2.7/edit-video", "video_url"), ("wan-ai/wan-2.7/edit", "no_such_field"),
            ("bytedance/seedance-2.0/pro", "seed"), ("bytedance/seedance-2.0/pro", "resolution")):
        await make(model, **{"prompt": "x", field: signed})
        await make(model, **{"prompt": "x", field: [signed]})
        await make(model, **{"prompt": "x", field: {"url": signed, signed: signed}})
    await attempt(reconcile(account, store, abandoned_after_seconds=0))
    await asyncio.sleep(3)  # Prefect sends its log and records its runs a little later

asyncio.run(main())
"""
)


def test_no_secret_is_written_anywhere(
    sandbox: Sandbox, object_store: ObjectStore, prefix: str, tmp_path: Path
) -> None:
    """Both flows, successful and failing, with every logger at DEBUG: then everything that was written is searched."""
    written = written_by(PROGRAM, sandbox, object_store, prefix, tmp_path)

    assert_in_words(tmp_path / "prefect" / "prefect.db")
    stored = {path: content for path, content in written.items() if path.parent == tmp_path and path.suffix == ".json"}
    for path, content in stored.items():
        assert not any(str(folder).encode() in content for folder in (ROOT, tmp_path, Path.home())), (path, content)
    pages = written[tmp_path / "prefect" / "prefect.db"]
    assert pages.count(b"](data:image/jpeg;base64,") >= 4 and b"### UncertainSubmission" in pages
    assert sandbox.books().submissions_accepted >= 14
    search(written, sandbox, object_store)


def test_no_secret_of_any_model_is_written_anywhere(object_store: ObjectStore, prefix: str, tmp_path: Path) -> None:
    """Images, videos and sounds, alone and in lists, from files and buckets; and what looks like one and is refused."""
    clip, sound = tmp_path / "given.mp4", tmp_path / "given.mp3"
    recipe = Recipe(prompt="x", seed=1, frames=30, frames_per_second=10, width=640, height=480)
    render(recipe, clip)
    render(replace(recipe, makes="audio", form="mp3"), sound)
    models = ROOT / "tests" / "contract" / "models"
    with Sandbox(SandboxSettings(token="sandbox-9a31bc", run_seconds=0.05, tiny_videos=True, models=models)) as sandbox:
        media = {"IMAGE": str(ROOT / "deployments" / "demo.jpg"), "VIDEO": str(clip), "AUDIO": str(sound)}

        written = written_by(ANY_MODEL, sandbox, object_store, prefix, tmp_path, **media)

        assert sandbox.books().submissions_accepted >= 10
        said = (tmp_path / "console.log").read_text(encoding="utf-8", errors="replace")
        assert "keyframes: it names a file" in said
        search(written, sandbox, object_store)


def written_by(
    program: str, sandbox: Sandbox, object_store: ObjectStore, prefix: str, tmp_path: Path, **more: str
) -> dict[Path, bytes]:
    """Run a program with every logger at DEBUG, and return all that it wrote: Prefect's files, output, the bucket's."""
    home = tmp_path / "prefect"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "AWS_"))} | {
        "PREFECT_HOME": str(home),
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "boto3,botocore,httpcore,httpx,runcomfy,s3transfer,urllib3",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "TOKEN": sandbox.token,
        "URL": sandbox.url,
        "HOST": sandbox.host,
        "KEY": object_store.access_key,
        "SECRET": object_store.secret_key,
        "ENDPOINT": object_store.endpoint_url,
        "PREFIX": prefix,
        "PICTURE": str(ROOT / "deployments" / "demo.jpg"),
        **more,
    }

    with (tmp_path / "console.log").open("wb") as console:
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=environment,
            stdout=console,
            stderr=console,
            timeout=900,
            check=True,
        )
    client = object_store.session().client("s3", endpoint_url=object_store.endpoint_url)
    for entry in client.list_objects_v2(Bucket="videos", Prefix=prefix).get("Contents", []):
        if entry["Key"].endswith((".json", ".csv")):
            body = client.get_object(Bucket="videos", Key=entry["Key"])["Body"].read()
            (tmp_path / entry["Key"].replace("/", "_")).write_bytes(body)

    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(b"botocore" in content for content in written.values()), "the loggers were not turned up"
    assert sum(path.name.endswith(".json") for path in written) >= 4
    return written


def search(written: Mapping[Path, bytes], sandbox: Sandbox, object_store: ObjectStore) -> None:
    """Search all of it for a token, a key, and a signature."""
    for path, content in written.items():
        where = content.find(sandbox.token.encode())
        assert where < 0, (path, content[max(0, where - 300) : where + 100])
        assert object_store.secret_key.encode() not in content, path
        found = SIGNATURES.search(content)
        assert found is None, (path, content[max(0, found.start() - 300) : found.end() + 100])
        where = content.find(b"0123456789abcdef")
        assert where < 0, (path, content[max(0, where - 500) : where + 100])


def assert_in_words(database: Path) -> None:
    """No line of Prefect's log says in Python what is for people; the traceback below a line is left out."""
    with closing(sqlite3.connect(database)) as connection:
        lines = connection.execute(
            "SELECT message FROM log WHERE level >= 20 AND name LIKE 'prefect.%_runs'"
        ).fetchall()
    assert len(lines) > 100
    said = [line.partition("\nTraceback (most recent call last)")[0] for (line,) in lines]
    assert [line for line in said if RAW.search(line)] == []
