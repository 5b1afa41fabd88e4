"""Rows of any model: cells in the types of its inputs, in every format, and written so that they read the same."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import openpyxl  # type: ignore[import-untyped]
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcomfy.manifest import Manifest, standalone_row, write_manifest
from runcomfy.models.cells import Nested, cell_value, text_of
from runcomfy.models.pins import Pin, class_of
from tests.runcomfy.manifest.making import csv_text, jsonl_text, problems, read_text

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "prompt": {"type": "string"},
        "size": {"type": "string", "enum": ["5", "10"]},
        "count": {"type": "integer"},
        "scale": {"type": "float"},
        "loud": {"type": "boolean"},
        "voice": {"type": "string"},
        "photo_urls": {"type": "array", "items": {"type": "string"}},
        "numbers": {"type": "array", "items": {"type": "number"}},
        "lora": {"type": "object"},
        "either": {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "null"}]},
        "anything": {},
        "Camera-Move": {"type": "string"},
        "model": {"type": "string"},
        "line": {"type": "integer"},
    },
}
MODEL = "acme/odd"
KIND = class_of(
    Pin.from_entry({"model_id": MODEL, "input_schema": SCHEMA}, "a test", media={"photo_urls": "image"})
)  # fmt: skip
OTHER = class_of(
    Pin.from_entry({"model_id": "acme/text", "input_schema": {"properties": {"text": {"type": "string"}}}}, "a test")
)
KINDS = {MODEL: KIND, "acme/text": OTHER}
ROW: dict[str, Any] = {
    "model": MODEL, "prompt": "snow", "size": 10, "count": 3, "scale": 0.5, "loud": True, "voice": " a b",
    "photo_urls": "a.png|s3://b/c.png", "numbers": "[1, 2.5]", "lora": '{"path": "x"}', "either": 7,
    "anything": '{"a": [1]}', "camera move": "left", "input.model": "v2", "input.line": 4, "variation": "again",
}  # fmt: skip


def xlsx(rows: list[dict[str, Any]]) -> bytes:
    book = openpyxl.Workbook()
    book.active.append(["# a comment"])
    book.active.append(list(rows[0]))
    for row in rows:
        book.active.append(list(row.values()))
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue())


FILES: dict[str, str | bytes] = {
    "m.csv": csv_text([ROW]),
    "m.tsv": csv_text([ROW], "\t"),
    "m.jsonl": jsonl_text(
        [ROW | {"photo_urls": ["a.png", "s3://b/c.png"], "numbers": [1, 2.5], "lora": {"path": "x"}}]
    ),
    "m.xlsx": xlsx([ROW]),
    "m.parquet": parquet([ROW]),
}


def asked(manifest: Manifest) -> dict[str, Any]:
    (row,) = manifest.rows
    return {**row.order.settings, "variation": row.order.variation}


@pytest.mark.parametrize("name", FILES)
def test_every_format_asks_for_the_same(name: str, tmp_path: Path) -> None:
    """And so does what is written of a row that failed."""
    manifest = read_text(tmp_path, name, FILES[name], kinds=KINDS)

    assert problems(manifest) == {}
    found = asked(manifest)
    assert found.pop("photo_urls") == [str(tmp_path / "a.png"), "s3://b/c.png"]
    assert found == {
        "prompt": "snow", "size": "10", "count": 3, "scale": 0.5, "loud": True, "voice": " a b", "numbers": [1, 2.5],
        "lora": {"path": "x"}, "either": 7, "anything": {"a": [1]}, "Camera-Move": "left", "model": "v2", "line": 4,
        "variation": "again",
    }  # fmt: skip
    row = standalone_row(manifest.rows[0].source, manifest.rows[0].order, None, typed=manifest.format == "jsonl")
    written = write_manifest([(row, "it failed")], manifest.columns, manifest.format, delimiter=manifest.delimiter)
    again = read_text(tmp_path, f"again.{manifest.format}", written, kinds=KINDS)
    assert problems(again) == {}
    assert again.rows[0].order.identity() == manifest.rows[0].order.identity()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"count": "1.5"}, "count: "),
        ({"count": "1.23457E+11"}, "digits may be lost"),
        ({"count": "9007199254740993.0"}, "may have been rounded"),
        ({"scale": "0,5"}, "scale: "),
        ({"scale": "1e999"}, "scale: "),
        ({"loud": "yes"}, "loud: "),
        ({"numbers": "1|x"}, "numbers"),
        ({"lora": "[1]"}, "lora: "),
        ({"lora": "{"}, "lora: "),
        ({"photo_urls": "ftp://x/a.png"}, "a file cannot be read from ftp:"),
        ({"voice": "s3://bucket/a.mp3"}, "names a file"),
        ({"text": "x"}, "has no such input"),
        ({"prompt": "#REF!"}, "it is not a prompt"),
        ({"prompt": " "}, "prompt: Field required"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(row: dict[str, str], says: str, tmp_path: Path) -> None:
    rows = [{"model": "acme/text", "text": "fine"}, {"model": MODEL, "prompt": "snow", **row}]

    found = problems(read_text(tmp_path, "m.csv", csv_text(rows), kinds=KINDS))

    assert set(found) == {3}
    assert says in found[3]


def test_columns_and_defaults_that_no_model_of_the_file_has_are_refused(tmp_path: Path) -> None:
    """Settings of the typed models are such where no row is theirs; what some rows have is left to them."""
    rows = [{"model": MODEL, "prompt": "a", "num_frames": "", "prompt_": "b"}, {"model": "acme/text", "text": "b"}]

    found = problems(read_text(tmp_path, "m.csv", csv_text(rows), kinds=KINDS))
    mixed = read_text(tmp_path, "n.csv", csv_text([{**rows[0], "prompt_": ""}, {"prompt": "typed"}]), kinds=KINDS)
    common = read_text(tmp_path, "o.csv", csv_text(rows[1:]), kinds=KINDS, defaults={"text": "c", "count": "4"})

    assert "num_frames: there is no such field" in found[1]
    assert "prompt_: there is no such field; did you mean prompt?" in found[1]
    assert set(problems(mixed)) == {1}
    assert "prompt_" in problems(mixed)[1]
    assert asked(common) == {"text": "b", "variation": ""}
    with pytest.raises(Exception, match="cannot be set for all rows: seed"):
        read_text(tmp_path, "p.csv", csv_text(rows[1:]), kinds=KINDS, defaults={"seed": 1})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), each, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(value=JSON.filter(lambda each: each is not None))
def test_a_cell_that_was_written_reads_as_the_same(value: Any) -> None:
    """Of an input of any type, as in CSV; and what JSON Lines nests is kept."""
    if not KIND.accepts("anything", value):
        return
    text = text_of(KIND, "anything", value)

    assert cell_value(KIND, "anything", text if isinstance(text, str) else json.dumps(text)) == value
    if isinstance(value, list | dict):
        assert cell_value(KIND, "anything", Nested(json.dumps(value))) == value


@pytest.mark.parametrize("name", ["m.csv", "m.xlsx", "m.parquet", "m.jsonl"])
def test_an_empty_cell_of_a_medium_is_refused_where_other_rows_have_one(tmp_path: Path, name: str) -> None:
    """A file that was forgotten must not become a generation without it; what is left out on purpose has no cell."""
    image, other, without = (
        {"model": MODEL, "prompt": "a", "photo_urls": "a.png"},
        {"model": MODEL, "prompt": "b", "photo_urls": ""},
        {"model": "acme/text", "text": "c"},
    )
    in_columns = [image, other, {"model": MODEL, "prompt": "d", "photo_urls": "[]"}]
    content = {"m.csv": csv_text, "m.xlsx": xlsx, "m.parquet": parquet, "m.jsonl": jsonl_text}[name](in_columns)

    bad = read_text(tmp_path, name, content, kinds=KINDS).bad

    assert len(bad) == 1 and "photo_urls: it is empty, and other rows" in bad[0].problems[0]
    left_out = jsonl_text([image, {"model": MODEL, "prompt": "b"}, without])
    alone = read_text(tmp_path, "n.jsonl", left_out, kinds=KINDS)
    assert alone.bad == ()
    everywhere = read_text(tmp_path, "o.csv", csv_text([other]), kinds=KINDS)
    assert everywhere.bad == ()


@pytest.mark.parametrize(
    ("name", "cell", "value"),
    [
        ("items", '[{"a":', '[{"a":'),
        ("items", '{"a":', '{"a":'),
        ("items", "[a|b]", "[a|b]"),
        ("items", "a|b", ["a", "b"]),
        ("items", '[{"a": 1}]', [{"a": 1}]),
        ("objects", '{"a": 1}|{"b": 2}', [{"a": 1}, {"b": 2}]),
        ("verses", "[verse] a|[chorus] b", ["[verse] a", "[chorus] b"]),
    ],
)
def test_broken_json_is_no_list_of_texts(name: str, cell: str, value: Any) -> None:
    """A model whose list may hold anything would accept the pieces, and be paid for them."""
    lists = {"items": {}, "objects": {"items": {"type": "object"}}, "verses": {"items": {"type": "string"}}}
    schema = {"properties": {each: {"type": "array", **rules} for each, rules in lists.items()}}
    kind = class_of(Pin.from_entry({"model_id": "acme/lists", "input_schema": schema}, "a test"))

    assert cell_value(kind, name, cell) == value
    assert kind.accepts(name, value) == isinstance(value, list)
