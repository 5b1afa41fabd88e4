"""Any bytes get a verdict and are archived, whatever they do to a decoder; this process does not end with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
FILES, EVERY = 120, 12


def test_no_mutation_of_a_video_or_sound_is_lost() -> None:
    """Boxes, tables of samples, edits and sizes that lie, and bytes that are flipped, cut, repeated, swapped."""
    words = ["-X", "faulthandler", "-m", "tests.corpus.fuzz_media", str(FILES), "5", str(EVERY)]
    fuzzing = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)

    assert fuzzing.returncode == 0, fuzzing.stdout[-500:] + fuzzing.stderr[-3000:]
    found = json.loads(fuzzing.stdout.partition("\n")[2])
    assert sum(found["verdicts"].values()) == FILES and found["archived"] >= FILES // EVERY - 1
