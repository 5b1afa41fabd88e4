"""A manifest to begin with can be run as it is: comments are not read, and its sample row is accepted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from runcomfy.manifest.template import manifest_template
from runcomfy.models import MODELS, ModelInputs
from runcomfy.models.pins import Pin, class_of
from tests.runcomfy.manifest.making import read_text

FOLDER = Path(__file__).parents[2] / "contract" / "models"


def entries() -> dict[str, type[ModelInputs]]:
    found = {}
    for path in sorted(FOLDER.glob("*.json")):
        entry = json.loads(path.read_text(encoding="utf-8"))
        named = re.sub(r"[^\w./-]+", "-", entry["model_id"]).strip("-./")
        model_id = named if "/" in named else f"local/{named}"
        found[path.stem] = class_of(Pin.from_entry({**entry, "model_id": model_id}, path.name))
    return found | {kind.model_id: kind for kind in MODELS.values()}


KINDS = entries()
AT = {"type": "number", "minimum": 0.5}
ODD = class_of(
    Pin.from_entry(
        {
            "model_id": "odd/one",
            "input_schema": {
                "type": "object",
                "required": ["model", "keys", "words", "size", "# note", "error"],
                "properties": {
                    "model": {"type": "string", "enum": ["a, b", 'c "d"']},
                    "keys": {
                        "type": "array", "minItems": 2, "description": 'With "quotes", commas,\nand lines; ' * 9,
                        "items": {"type": "object", "required": ["at"], "properties": {"at": AT}},
                    },
                    "words": {"type": "string", "minLength": 40, "description": "=SUM(1)"},
                    "size": {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "string", "enum": ["auto"]}]},
                    "# note": {"type": "string"},
                    "error": {"type": "boolean"},
                    **{f"more_{number}": {"type": "number"} for number in range(30)},
                },
            },
        },
        "a test",
    )
)  # fmt: skip


@pytest.mark.parametrize("name", [*KINDS, "odd"])
@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_a_template_is_a_manifest(name: str, format: str, tmp_path: Path) -> None:
    """Its comments name every column, and its row is one generation of the model."""
    kind = KINDS.get(name, ODD)
    text = manifest_template(kind, "csv" if format == "csv" else "jsonl").decode()
    kinds = {} if kind.model_id in MODELS else {kind.model_id: kind}

    manifest = read_text(tmp_path, f"m.{format}", text, kinds=kinds)

    assert manifest.bad == ()
    assert [row.order.model_id for row in manifest.rows] == [kind.model_id]
    comments = [line for line in text.splitlines() if re.match(r'"?# ', line)]
    assert len(comments) >= len(kind.model_fields) + 3


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_template_that_a_spreadsheet_saved_again_is_the_same(separator: str, tmp_path: Path) -> None:
    """With a byte order mark, another separator, cells for all columns in the comments, and a blank line."""
    ends = separator * 2
    saved = f'\ufeff# a, manifest{ends}\r\n"# model: it says ""so"""{ends}\r\n{ends}\r\n'
    saved += f"model{separator}prompt{separator}seed\r\ntext-to-video{separator}# a sign{separator}7\r\n"

    manifest = read_text(tmp_path, "m.csv", saved)

    assert manifest.bad == ()
    assert [(row.line, row.order.prompt) for row in manifest.rows] == [(5, "# a sign")]


def test_what_looks_like_a_comment_further_down_is_asked_for(tmp_path: Path) -> None:
    csv = read_text(tmp_path, "m.csv", "prompt\n# rain\n# snow\n")
    column = read_text(tmp_path, "n.csv", "#,prompt\n1,rain\n")
    jsonl = read_text(tmp_path, "m.jsonl", '# a comment\n{"prompt": "rain"}\n# not one\n')

    assert [row.order.prompt for row in csv.rows] == ["# rain", "# snow"]
    assert "#: there is no such field" in column.bad[0].problems[0]
    assert [bad.line for bad in jsonl.bad] == [3]


def test_choices_that_spreadsheets_take_for_formulas_are_read_back(tmp_path: Path) -> None:
    """They are defused in a template, and in the rows that a person adds to it they need not be."""
    schema = {
        "required": ["mode", "shift", "prompt"],
        "properties": {
            "mode": {"type": "string", "enum": ["-auto", "=x", "'=y"]},
            "shift": {"type": "number", "minimum": -5, "maximum": -1},
            "prompt": {"type": "string"},
        },
    }
    kind = class_of(Pin.from_entry({"model_id": "acme/signs", "input_schema": schema}, "a test"))
    text = manifest_template(kind).decode() + "acme/signs,=x,-2,snow,\nacme/signs,''=y,-2,snow,\n"

    manifest = read_text(tmp_path, "m.csv", text, kinds={"acme/signs": kind})

    assert manifest.bad == ()
    assert [row.order.settings["mode"] for row in manifest.rows] == ["-auto", "=x", "'=y"]
    own = read_text(tmp_path, "n.csv", "prompt,variation\n'=rain,1\n")
    assert own.rows[0].order.prompt == "'=rain"
