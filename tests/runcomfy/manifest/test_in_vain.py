"""Rows that would be paid for in vain: prompts that are placeholders, and numbers that a program changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from tests.runcomfy.manifest.making import csv_text, jsonl_text, problems, read_text

PLACEHOLDERS = [
    "nan", "NaN", "NAN", "-nan", "None", "NONE", "null", "NULL", "(null)", "nil", "undefined", "NaT", "<NA>", "NA",
    "N/A", "n/a",
    "#N/A", "#n/a", "#N/A N/A", "#NA", "#NV", "#REF!", "#ref!", "#VALUE!", "#NAME?", "#DIV/0!", "#NULL!", "#NUM!",
    "#SPILL!",
    "#CALC!", "#FIELD!", "#BEZUG!", "#WERT!", "#NOM?", "#\u00a1REF!", "#GETTING_DATA", "#ERROR!", "Err:502", "####",
    "1.#QNAN",
    "TRUE", "False", "TODO", "tbd", "-", "\u2014", "--", ".", "...", "?", "0", "11", "1.5", "2024-01-01", "12:30",
    "$5", "\\N",
    "[object Object]", "[]", "{}", '"nan"', " nan ", "'None'", "inf", "=A1", "=A1&B1",
    '=HYPERLINK("http://h/","click")', "@SUM(1+1)",
    "+SUM(A1:A2)", "-SUM(A1)", '=IF(A1="","a cat",B1)',
]  # fmt: skip
PROMPTS = [
    "None of them can swim", "Nan bread in an oven", "a null pointer", "#1 in the charts", "N", "A true story",
    "\U0001f98a", "\u2764\ufe0f", "\u96e8", "3D cat", "- a dog, running", "@midjourney style cat", "+1 for cats",
    "500 cats",
    "null island at night", "Is this a cat?",
]  # fmt: skip


def written(kind: str, folder: Path, rows: list[dict[str, Any]], **options: Any) -> Any:
    """Read rows that were written as one of the three formats."""
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), folder / "m.parquet")
        return read_text(folder, "m.parquet", (folder / "m.parquet").read_bytes(), **options)
    return read_text(folder, f"m.{kind}", csv_text(rows) if kind == "csv" else jsonl_text(rows), **options)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_programs_word_for_no_value_is_not_a_prompt(kind: str, tmp_path: Path) -> None:
    """As the whole of a prompt, in any case, and however it is quoted; what only looks like it is one."""
    rows = [{"prompt": prompt, "seed": number} for number, prompt in enumerate([*PLACEHOLDERS, *PROMPTS])]

    manifest = written(kind, tmp_path, rows)

    assert [row.order.prompt for row in manifest.rows] == PROMPTS
    assert len(manifest.bad) == len(PLACEHOLDERS)
    assert all("allow_placeholder_prompts" in sentence for sentence in problems(manifest).values())


def test_a_placeholder_can_be_allowed(tmp_path: Path) -> None:
    """The refusal can be turned off; a prompt that says nothing at all stays refused."""
    rows = [{"prompt": prompt, "seed": number} for number, prompt in enumerate([*PLACEHOLDERS, "\u200b"])]

    manifest = written("csv", tmp_path, rows, allow_placeholder_prompts=True)

    assert [row.order.prompt for row in manifest.rows] == PLACEHOLDERS
    assert "it says nothing" in "".join(problems(manifest).values())


def test_a_default_prompt_is_checked_likewise(tmp_path: Path) -> None:
    """It counts for every row that has none."""
    assert len(read_text(tmp_path, "m.csv", "seed\n1\n2\n", defaults={"prompt": "#REF!"}).bad) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1.23457E+11", "digits may be lost"), ("4E+09", "digits may be lost"), ("1,23457E+11", "digits may be lost"),
        ("8.1E+01", "digits may be lost"), ("81e0", "digits may be lost"), ("1e16", "digits may be lost"),
        ("12,345", "digits only"), ("12.345", "digits only"), ("1.000", "digits only"), ("1.234.567", "digits only"),
        ("1 234", "digits only"), ("1\u00a0234", "digits only"), ("1'234", "digits only"), ("1_234", "digits only"),
        ("9007199254740992.0", "may have been rounded"), ("12345678901234567890.0", "may have been rounded"),
        ("81.5", "whole number"), ("81,0", "whole number"), ("081", "whole number"), ("81 frames", "whole number"),
        ("#REF!", "whole number"), ("2024-01-01", "whole number"), ("81%", "whole number"), ("Infinity",
        "whole number"),
    ],
)  # fmt: skip
def test_a_number_that_was_changed_on_the_way_is_refused(text: str, said: str, tmp_path: Path) -> None:
    """In a cell, and in JSON as a text; by any setting that is a whole number."""
    settings = ("seed", "num_frames", "frames_per_second", "num_inference_steps")
    rows = [{"prompt": "A cat", "image": "https://h/a.png", setting: text} for setting in settings]

    for kind in ("csv", "jsonl"):
        found = problems(written(kind, tmp_path, rows))
        assert len(found) == len(settings)
        for setting, sentence in zip(settings, found.values(), strict=True):
            assert f"{setting}: " in sentence and said in sentence


@pytest.mark.parametrize(
    ("text", "seed"),
    [("7", 7), ("7.0", 7), ("7.00", 7), (" 7 ", 7), ("7\u00a0", 7), ("-7.0", -7), ("123456789012345678901",
    123456789012345678901)],
)  # fmt: skip
def test_a_number_that_is_certainly_whole_is_accepted(text: str, seed: int, tmp_path: Path) -> None:
    """As programs write it."""
    for kind in ("csv", "jsonl", "parquet"):
        (row,) = written(kind, tmp_path, [{"prompt": "A cat", "seed": text}]).rows
        assert row.order.inputs(None).seed == seed


@pytest.mark.parametrize(
    ("number", "taken"),
    [
        ("7", True), ("7.0", True), ("123457000000.0", True), ("9007199254740991.0", True), ("9007199254740993", True),
        ("1.23457E+11", False), ("4e9", False), ("7E0", False), ("9007199254740992.0", False), ("7.5", False),
        ("1e400", False),
    ],
)  # fmt: skip
def test_a_number_of_json_is_judged_as_it_is_written(number: str, taken: bool, tmp_path: Path) -> None:
    """Programs write an exponent for numbers that they do not know exactly."""
    manifest = read_text(tmp_path, "m.jsonl", f'{{"prompt": "A cat", "seed": {number}}}\n')

    assert len(manifest.rows) == taken
    if taken:
        assert manifest.rows[0].order.inputs(None).seed == int(json.loads(number))


@pytest.mark.parametrize(
    ("kind", "value", "taken"),
    [
        (pa.int64(), 2**53 + 1, True), (pa.uint64(), 2**63 + 1, True), (pa.float64(), 2.0**53 - 1, True),
        (pa.float64(), 2.0**53, False),
        (pa.float64(), -(2.0**60), False), (pa.float32(), 2.0**24 - 1, True), (pa.float32(), 2.0**24, False),
        (pa.float64(), None, True),
        (pa.float64(), 7.5, False), (pa.float64(), float("inf"), False), (pa.float64(), float("nan"), True),
    ],
)  # fmt: skip
def test_a_column_of_floats_is_taken_as_far_as_it_is_exact(kind: Any, value: Any, taken: bool, tmp_path: Path) -> None:
    """pandas turns a column of integers with a gap into floats."""
    table = pa.table({"prompt": ["A cat", "A dog"], "seed": pa.array([value, 1], kind)})
    pq.write_table(table, tmp_path / "m.parquet")

    manifest = read_text(tmp_path, "m.parquet", (tmp_path / "m.parquet").read_bytes())

    assert [row.line for row in manifest.rows] == ([1, 2] if taken else [2])
    if taken and value == value and value is not None:
        assert manifest.rows[0].order.inputs(None).seed == int(value)
