"""Whatever is read, only `InvalidInput` is raised, within a bound of memory and time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus.fuzzing import READERS

ROOT = Path(__file__).parents[3]
COUNTS = {"csv": 2000, "jsonl": 1000, "parquet": 3000, "xlsx": 300, "sidecar": 5000, "notice": 5000}
"""What takes a few seconds each; some ten thousand of each were read by hand."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", READERS)
def test_changed_files_are_read_or_refused(kind: str) -> None:
    """In a process of its own, whose address space is bounded: a file that needs more would be seen."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.corpus.fuzzing", kind, str(COUNTS[kind])],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["count"] == COUNTS[kind]
