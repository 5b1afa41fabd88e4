"""A batch over eight models by the command, killed and run again: each row is paid for once, and has its one file."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import math
import struct
import subprocess
import sys
import time
import wave
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from runcomfy.api.client import RunComfyClient
from runcomfy.journal import Entry, EntryState, Journal, adopt, release
from runcomfy.journal.bucket import BucketJournalStore
from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store
from tests.runcomfy.cli.command_line import ROOT, CommandLine, command_line, surroundings

__all__ = ["command_line", "surroundings"]

pytestmark = pytest.mark.slow

MODELS = Path(__file__).parents[1] / "contract" / "models"
ROWS, PATIENCE_SECONDS = 200, 2
KILLED_AFTER = (30, 100)
"""A kill comes at so many submissions of all; no run ends before it has made 200."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    settings = SandboxSettings(
        run_seconds=0.05, tiny_videos=True, models=MODELS, slots=100, opening_balance_usd=1e6
    )  # fmt: skip
    with Sandbox(settings) as running:
        yield running


def manifest_of(folder: Path) -> Path:
    """Write the manifest and its files: videos, images and sounds; three models take several files."""
    for name, colour in (("a.png", "navy"), ("b.png", "teal")):
        Image.new("RGB", (320, 180), colour).save(folder / name)
    with av.open(str(folder / "speaker.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuv420p"
        for _ in range(8):
            container.mux(stream.encode(av.VideoFrame(64, 36, "yuv420p")))
        container.mux(stream.encode(None))
    for number in range(ROWS // 8):
        with wave.open(str(folder / f"{number}.wav"), "wb") as sound:
            sound.setparams((1, 2, 8000, 0, "NONE", ""))
            tone = (int(9000 * math.sin(each * (number + 5) / 40)) for each in range(4000))
            sound.writeframes(b"".join(struct.pack("<h", each) for each in tone))
    columns = ("model", "prompt", "image", "image_urls", "first_frame", "last_frame", "video_url", "audio_url")
    rows: list[dict[str, str]] = []
    for number in range(ROWS // 8):
        rows += [
            {"model": "text-to-video", "prompt": f"rain {number}"},
            {"model": "image-to-video", "prompt": f"snow {number}", "image": "a.png"},
            {"model": "wan-ai/wan-2.7/edit", "prompt": f"fog {number}", "image_urls": "a.png|b.png"},
            {"model": "blackforestlabs/flux-1-kontext/pro/edit", "prompt": f"hail {number}", "image": "b.png"},
            {"model": "wan-ai/wan-2.7/text-to-image", "prompt": f"sun {number}"},
            {"model": "elevenlabs/elevenlabs/music-generation", "prompt": f"wind {number}"},
            {"model": "kling/kling/lipsync/audio-to-video", "video_url": "speaker.mp4", "audio_url": f"{number}.wav"},
            {"model": "bytedance/seedance-2.5/first-last-frame/480p", "prompt": f"dew {number}",
             "first_frame": "a.png", "last_frame": "b.png"},
        ]  # fmt: skip
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return folder / "rows.csv"


def asked(inputs: dict[str, Any]) -> str:
    """Return what tells a row from all others: its prompt, else the content of its sound."""
    return str(inputs.get("prompt") or inputs["audio_url"].rpartition("/")[2].partition("?")[0])


async def decide(journal: Journal, sandbox: Sandbox) -> None:
    """Do as a person does with what is uncertain: look at the account, then adopt the request, or release."""
    became = {asked(request.inputs): request.id for request in sandbox.books().requests}
    uncertain: list[Entry] = [
        version.entry async for version in journal.entries() if version.entry.state is EntryState.UNCERTAIN
    ]
    async with RunComfyClient(sandbox.token, base_url=sandbox.url) as client:
        for entry in uncertain:
            if request_id := became.get(asked(dict(entry.inputs))):
                await adopt(client, journal, entry.generation_key, request_id)
            else:
                await release(journal, entry.generation_key)


def test_two_hundred_rows_over_eight_models_under_kills(
    command_line: CommandLine, sandbox: Sandbox, object_store: ObjectStore, tmp_path: Path, prefix: str
) -> None:
    """Two hundred files, two hundred payments."""
    manifest = manifest_of(tmp_path)
    environment = command_line.environment | {"RUNCOMFY_JOURNAL_PATIENCE_SECONDS": str(PATIENCE_SECONDS)}
    words = ["batch", str(manifest), "--bucket", command_line.bucket, "--at-once", "60", "--json"]
    command = [sys.executable, "-m", "runcomfy", *words]
    for wanted in KILLED_AFTER:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and sandbox.books().submissions_received < wanted:
            time.sleep(0.01)
        process.kill()
        process.wait()
        time.sleep(PATIENCE_SECONDS)
    store = Store(
        "videos", prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url
    )  # fmt: skip
    for _ in range(4):
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1500, check=False
        )
        report = json.loads(done.stdout)
        if report["archived"] == ROWS:
            break
        assert set(report["counts"]) <= {"archived", "existing", "uncertain"}, done.stderr[-3000:]
        asyncio.run(decide(Journal(BucketJournalStore(store)), sandbox))

    books = sandbox.books()
    table = store.read(report["results"].removeprefix("s3://videos/"), limit_bytes=1_000_000).decode("utf-8-sig")
    uris = [row["uri"] for row in csv.DictReader(io.StringIO(table))]
    sizes = [found.size_bytes for uri in uris if (found := store.head(uri.removeprefix("s3://videos/"))) is not None]
    assert report["archived"] == report["rows"] == ROWS
    assert len(set(uris)) == len(sizes) == ROWS
    assert all(sizes)
    assert books.submissions_accepted == ROWS
    assert set(Counter(asked(request.inputs) for request in books.requests).values()) == {1}
    assert set(Counter(request.model for request in books.requests).values()) == {ROWS // 8}
