"""What is offered and what was written stays: nothing of it is removed or changed, whatever is added.

`record.py` beside this file says how the files are recorded, and what it means to change one.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from runcomfy.archive.provenance import Provenance
from runcomfy.journal import Entry
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from tests.golden import commands, saved_blocks
from tests.golden.comparing import gone
from tests.golden.documents import meaning, meaning_of_files
from tests.golden.offered import OFFERED
from tests.golden.record import recorded

ENTRIES: dict[str, dict[str, Any]] = recorded("written/entries.json")


@pytest.mark.parametrize("name", OFFERED)
def test_nothing_that_is_offered_is_removed_or_changed(name: str) -> None:
    """Names, types, units, labels and codes; additions are welcome, unless they are required."""
    assert gone(recorded(f"offered/{name}.json"), OFFERED[name]()) == []


def test_columns_keep_their_order() -> None:
    """New ones come at the end."""
    before = list(recorded("offered/catalogue.json"))

    assert list(OFFERED["catalogue"]())[: len(before)] == before


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_is_read_and_keeps_its_meaning(name: str) -> None:
    """In every state, for the journal as for the catalogue; written again, it has every key and value that it had."""
    entry = Entry.model_validate(ENTRIES[name])

    assert gone(ENTRIES[name], json.loads(entry.to_json())) == []
    assert gone(recorded("offered/meanings.json")[name], meaning(entry)) == []


def test_an_entry_needs_no_more_than_the_first_ones_had() -> None:
    """What was added since has a default."""
    required = ("generation_key", "state", "model_id", "service", "inputs", "created_at", "updated_at")
    written = ENTRIES["archived"]
    step = {name: written["history"][-1][name] for name in ("at", "state", "worker")}

    entry = Entry.model_validate({name: written[name] for name in required} | {"history": [step]})

    assert (entry.attempt, entry.request_ids, entry.archive, entry.patience_seconds) == (1, [], None, 180.0)
    assert meaning(entry)["row"]["outcome"] == "archived"


def test_the_document_beside_a_video_is_read_and_keeps_its_meaning() -> None:
    """For anyone who reads the file as for the catalogue."""
    written = recorded("written/provenance.json")
    document = Provenance.from_json(json.dumps(written).encode())

    assert gone(written, json.loads(document.to_json())) == []
    assert gone(recorded("offered/meaning_of_files.json"), meaning_of_files(document)) == []


@pytest.mark.parametrize("slug", saved_blocks.BLOCKS)
async def test_a_block_that_this_version_saved_can_be_loaded(slug: str, prefect_api: str) -> None:
    """Under the schema that it was saved with, every setting as it was."""
    block, name = saved_blocks.BLOCKS[slug], f"recorded-{uuid.uuid4().hex}"
    await saved_blocks.put_saved(type(block), name, recorded(f"written/{slug}.json"))

    loaded = await type(block).aload(name)

    assert saved_blocks.with_secrets(loaded) == saved_blocks.with_secrets(block)


def test_no_command_prints_less(sandbox: Sandbox, object_store: ObjectStore, prefect_api: str, tmp_path: Path) -> None:
    """Each key of its `--json` still exists, and its exit code is unchanged."""
    assert gone(recorded("offered/commands.json"), commands.printed(sandbox, object_store, tmp_path)) == []


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, []),
        ({"a": {"b": 1}}, {"a": {}}, [".a.b has gone"]),
        ({"a": 1}, {"a": 1.0}, [".a was 1 and is 1.0"]),
        ([{"a": 1}, 2], [2, 3, {"a": 1, "b": 1}], []),
        ([1], [2], [": 1 has gone"]),
        ({"properties": {}, "required": ["a"]}, {"properties": {}, "required": []}, []),
        ({"properties": {}}, {"properties": {}, "required": ["b"]}, [" asks for b now"]),
    ],
)
def test_additions_are_distinguished_from_losses(before: Any, now: Any, expected: list[str]) -> None:
    """The comparison itself."""
    assert gone(before, now) == expected
