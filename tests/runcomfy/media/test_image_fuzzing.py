"""Any bytes are an image or refused, in bounded time and memory: in a process that has no more of either."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
INPUTS = 30_000
SECONDS = 450
"""Of processor time for all inputs together, which took 7 s."""
MEMORY_BYTES = 2_500_000_000
"""Of addresses, of which the libraries take 1 GB before the first image."""


def test_no_mutation_of_an_image_does_harm() -> None:
    """Flipped, cut, repeated, swapped bytes, and lengths that lie, in every file of the corpus."""
    fuzzing = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.corpus.fuzz_images", str(INPUTS)], cwd=ROOT, capture_output=True,
        text=True, check=False, preexec_fn=limited,
    )  # fmt: skip

    assert fuzzing.returncode == 0, fuzzing.stdout[-500:] + fuzzing.stderr[-3000:]
    assert json.loads(fuzzing.stdout)["count"] == INPUTS


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
