"""Whatever is read, only `InvalidInput` is raised, within a bound of memory and time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus.fuzzing import READERS
from tests.corpus.starving import KINDS, ROWS

ROOT = Path(__file__).parents[3]
COUNTS = {
    "csv": 2000, "jsonl": 1000, "parquet": 3000, "xlsx": 300, "sidecar": 5000, "notice": 5000, "provenance": 5000,
    "entry": 1000, "answer": 1000,
}  # fmt: skip
"""What takes a few seconds each; 10,000 of each were read by hand (`make fuzz`): 0.3 s for one at most, 350 MB."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", READERS)
def test_changed_files_are_read_or_refused(kind: str) -> None:
    """In a process of its own, whose address space is bounded: a file that needs more would be seen."""
    count = int(os.environ.get("FUZZ_COUNT", COUNTS[kind]))
    done = subprocess.run(
        [sys.executable, "-m", "tests.corpus.fuzzing", kind, str(count)],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["count"] == count


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_without_memory_says_so(kind: str, tmp_path: Path) -> None:
    """A manifest of 30,000 rows, and a megabyte to read it with: our error, and no `MemoryError`."""
    file = tmp_path / f"large.{kind}"
    file.write_bytes(KINDS[kind](ROWS))
    done = subprocess.run(
        [sys.executable, "-m", "tests.corpus.starving", kind, "1", str(file)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr[-3000:]
