"""The demo as a newcomer runs it: one command, no account, nothing set up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def test_the_demo_makes_one_video_from_any_image(tmp_path: Path) -> None:
    """From the user's own image and prompt, in an empty home: a video that plays, with its provenance."""
    home, output, picture = tmp_path / "home", tmp_path / "output", tmp_path / "picture.png"
    home.mkdir()
    Image.linear_gradient("L").resize((640, 360)).convert("RGB").save(picture)
    own = ("PREFECT_", "AWS_", "RUNCOMFY_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)} | {"HOME": str(home)}

    options = ["--image", str(picture), "--prompt", "Fog rolls in", "--output", str(output)]
    done = subprocess.run(
        [sys.executable, "-m", "deployments.demo", *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    (video,), (provenance,) = output.glob("*.mp4"), output.glob("*.json")
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 81
    told = json.loads(provenance.read_text(encoding="utf-8"))
    assert provenance.name == f"{video.name}.json"
    assert told["inputs"]["prompt"] == "Fog rolls in"
    (shown,) = (line.split()[1] for line in done.stdout.splitlines() if line.split()[:1] == ["request"])
    assert told["request_id"] == shown
    assert str(video) in done.stdout
