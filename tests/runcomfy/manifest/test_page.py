"""The page about manifests holds what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from runcomfy.manifest.table import IGNORED, MAX_ROWS
from runcomfy.models.orders import FIELDS
from tests.runcomfy.manifest.making import read_text

PAGE = (Path(__file__).parents[3] / "docs/manifest.md").read_text(encoding="utf-8")


def test_every_column_is_explained() -> None:
    """The table names what may be given, and nothing else."""
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]

    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted((*FIELDS, *IGNORED))
    assert f"{MAX_ROWS:,} rows" in PAGE


def test_the_examples_are_manifests_of_the_same_generations(tmp_path: Path) -> None:
    """What is shown can be run, in each of the formats."""
    examples = dict(re.findall(r"```(csv|jsonl)\n(.*?)```", PAGE, re.DOTALL))

    manifests = [read_text(tmp_path, f"m.{kind}", text) for kind, text in examples.items()]

    assert [manifest.bad for manifest in manifests] == [(), ()]
    assert [row.order for row in manifests[0].rows] == [row.order for row in manifests[1].rows]
    assert len(manifests[0].rows) == 3
