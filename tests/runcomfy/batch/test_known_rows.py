"""Rows whose texts other programs wrote: planned under the key that the journal has them under."""

from __future__ import annotations

from pathlib import Path

import pytest

from runcomfy.batch.plan import rows_from_json, rows_to_json, stage_media
from runcomfy.batch.shard import Shard
from runcomfy.batch.status import known_rows
from runcomfy.errors import InvalidInput
from runcomfy.journal import GenerationSpec, Journal, MemoryJournalStore
from runcomfy.manifest import read_manifest
from runcomfy.models import TextToVideo, earlier_key, generation_key
from tests.runcomfy.manifest.making import NOT_ASKED

SAVED = {
    "a.csv": b'prompt,seed\n"A cat\nsits down",1\nCaf\xc3\xa9,2\nA dog,3\n',
    "b.csv": b'prompt,seed\r\n"A cat\r\nsits down",1\r\nCafe\xcc\x81,2\r\n"A dog ",3\r\n',
    "c.jsonl": b'{"prompt":"A cat\\nsits down","seed":1}\n'
    b'{"prompt":"Caf\\u00e9","seed":2}\n{"prompt":"A dog","seed":3}\n',
}


async def planned(folder: Path, name: str, content: bytes) -> list[str]:
    (folder / name).write_bytes(content)
    rows = await stage_media(read_manifest(str(folder / name), NOT_ASKED), NOT_ASKED)
    return [row.generation_key for row in rows]


async def test_the_same_manifest_saved_by_another_program_asks_for_the_same(tmp_path: Path) -> None:
    """Line ends within a text, decomposed letters, blanks at an end."""
    first, *others = [await planned(tmp_path, name, content) for name, content in SAVED.items()]

    assert len(set(first)) == 3
    assert others == [first, first]


async def test_a_row_that_was_paid_for_under_its_earlier_key_keeps_it(tmp_path: Path) -> None:
    """For the workers that share a batch too; the other rows have the key of their normal text."""
    (tmp_path / "b.csv").write_bytes(SAVED["b.csv"])
    rows = await stage_media(read_manifest(str(tmp_path / "b.csv"), NOT_ASKED), NOT_ASKED)
    journal, inputs = Journal(MemoryJournalStore()), TextToVideo(prompt="A dog ", seed=3)
    earlier = earlier_key(inputs)
    await journal.create(GenerationSpec(inputs, "http://127.0.0.1:1", known_as=earlier).intent("old:1"))

    known = await known_rows(rows, journal)

    assert [row.generation_key for row in known[:2]] == [row.generation_key for row in rows[:2]]
    assert known[2].generation_key == earlier != generation_key(inputs)
    assert [row.generation_key for row in rows_from_json(rows_to_json(known))] == [row.generation_key for row in known]


async def test_two_forms_of_one_text_in_a_manifest_are_the_same_generation(tmp_path: Path) -> None:
    """One of them would get no video of its own, so it is refused before anything is paid for."""
    manifest = 'prompt,variation\nA dog,x\n"A dog ",x\nA dog,"x\r"\nA dog,y\n'

    with pytest.raises(InvalidInput, match="2 of the 4 rows") as caught:
        await planned(tmp_path, "twice.csv", manifest.encode())

    assert [place for place, _ in caught.value.violations] == ["line 3", "line 4"]


async def test_a_shard_that_an_earlier_version_made_has_a_budget_of_its_own(tmp_path: Path) -> None:
    """It names no shared budget: two of them, of any manifest, do not spend each other's."""
    (tmp_path / "a.csv").write_bytes(SAVED["a.csv"])
    rows = await stage_media(read_manifest(str(tmp_path / "a.csv"), NOT_ASKED), NOT_ASKED)
    old = '{"number": 1, "rows_key": "r", "outcomes_key": "o", "allowance": {"limit_usd": 0.5, "usd_per_video": 0.25}}'
    earlier = Shard.model_validate_json(old)
    today = earlier.model_copy(update={"allowance": earlier.allowance.model_copy(update={"purse": "all"})})

    assert len({"", earlier.shared_budget_of(rows[:1]), earlier.shared_budget_of(rows[1:])}) == 3
    assert today.shared_budget_of(rows[:1]) == today.shared_budget_of(rows[1:]) == "all"
