"""Pins: a run never meets a schema that changed under it, and a changed one pays for nothing twice."""

from __future__ import annotations

from typing import Any

import pytest

from runcomfy.errors import ConfigurationError, InvalidInput
from runcomfy.journal import Journal, known_key
from runcomfy.journal.spec import GenerationSpec
from runcomfy.journal.stores import MemoryJournalStore
from runcomfy.models import check_inputs, generation_key
from runcomfy.models.differences import differences
from runcomfy.models.pins import Pin, class_of, output_of, pinned

PROMPT = {"prompt": {"type": "string"}}


def entry(**properties: Any) -> dict[str, Any]:
    return {
        "model_id": "a/b/text-to-video",
        "input_schema": {"properties": PROMPT | properties, "required": ["prompt"]},
    }


OLD = Pin.from_entry(entry(duration={"type": "integer", "default": 5}), "x")


def refreshed() -> Pin:
    """Return the pin with another default, as of now."""
    return OLD.refreshed(Pin.from_entry(entry(duration={"type": "integer", "default": 10}, fps={"default": 25}), "x"))


async def test_a_refreshed_schema_pays_for_nothing_twice() -> None:
    """What was left out, and has another default by now, is still the generation that exists."""
    journal = Journal(MemoryJournalStore())
    before = check_inputs(class_of(OLD), {"prompt": "rain"})
    assert await journal.create(GenerationSpec(before, "https://service").intent("w")) is not None

    new = class_of(refreshed())
    left_out = check_inputs(new, {"prompt": "rain"})
    same, longer = (check_inputs(new, {"prompt": "rain", "duration": each}) for each in (5, 10))

    assert await known_key(journal, left_out) == generation_key(before) == generation_key(same)
    assert await known_key(journal, longer) == generation_key(longer) != generation_key(before)


async def test_without_an_earlier_generation_it_means_what_it_sends() -> None:
    """Left out and given as the new default is one generation; the earlier default is another."""
    journal = Journal(MemoryJournalStore())
    left_out, old, new = (
        check_inputs(class_of(refreshed()), {"prompt": "rain", **given})
        for given in ({}, {"duration": 5}, {"duration": 10})
    )

    assert await known_key(journal, left_out) == await known_key(journal, new) != await known_key(journal, old)


async def test_the_first_use_pins_and_later_ones_ask_nobody() -> None:
    kept: dict[str, bytes] = {}
    asked: list[str] = []

    async def read(note: str) -> bytes | None:
        return kept.get(note)

    async def create(note: str, document: bytes) -> None:
        kept.setdefault(note, document)

    async def fetch(model_id: str) -> dict[str, Any]:
        asked.append(model_id)
        return entry()

    one = await pinned("a/b/text-to-video", read=read, create=create, fetch=fetch, source="https://service")
    two = await pinned("a/b/text-to-video", read=read, create=create, fetch=fetch, source="https://service")

    assert one == two
    assert asked == ["a/b/text-to-video"]
    assert (one.output, one.source) == ("video", "https://service")


def test_what_cannot_be_pinned() -> None:
    for bad in ({}, {"model_id": "a/b"}, {"model_id": "a/b", "input_schema": {}}, {"model_id": 3, "input_schema": {}}):
        with pytest.raises(InvalidInput):
            Pin.from_entry(bad, "entry.json")
    with pytest.raises(ConfigurationError, match="cannot be read by this version"):
        Pin.from_json(b"{}", "models/a/b")


def test_differences_are_sentences() -> None:
    old = {"properties": {"a": {"enum": [1, 2]}, "b": {"maximum": 5}, "c": {}}, "required": ["a"]}
    new = {"properties": {"a": {"enum": [2, 3]}, "b": {"maximum": 9}, "d": {}}, "required": ["b", "d"]}

    assert differences(old, new) == [
        "a: accepts 3 as well",
        "a: it is no longer required",
        "a: no longer accepts 1",
        "b: it is required now",
        "b: maximum was 5, and is 9",
        "c: it is gone",
        "d: it is new, and required",
    ]


@pytest.mark.parametrize(
    ("named", "made"),
    [
        ({"model_id": "a/b/image-to-video"}, "video"),
        ({"model_id": "a/b/text-to-image"}, "image"),
        ({"model_id": "a/b", "categories": ["text-to-speech"]}, "audio"),
        ({"model_id": "a/b/edit-video"}, "video"),
        ({"model_id": "a/b/c"}, ""),
    ],
)
def test_what_a_model_makes(named: dict[str, Any], made: str) -> None:
    assert output_of(named) == made


async def test_the_known_key_stays_what_it_was() -> None:
    """A run that is restarted waits for its own request, whatever others have asked for meanwhile."""
    journal = Journal(MemoryJournalStore())
    left_out, old = (
        check_inputs(class_of(refreshed()), {"prompt": "rain", **given}) for given in ({}, {"duration": 5})
    )
    mine = await known_key(journal, left_out)

    await journal.create(GenerationSpec(left_out, "https://service").intent("w"))
    await journal.create(GenerationSpec(old, "https://service").intent("w"))

    assert await known_key(journal, left_out) == mine


@pytest.mark.parametrize(
    ("before", "after", "given"),
    [
        ({"steps": {"type": "integer"}}, {"steps": {"type": "integer", "default": 30}}, {"steps": 30}),
        ({}, {"prompt": {"type": "string", "default": "rain"}}, {}),
        ({"size": {"enum": ["s"], "default": "xl"}}, {"size": {"enum": ["s", "xl"], "default": "xl"}}, {}),
    ],
    ids=["a default that is new", "a sample", "a default that was refused"],
)
async def test_a_key_means_the_same_inputs_for_ever(
    before: dict[str, Any], after: dict[str, Any], given: dict[str, Any]
) -> None:
    old = Pin.from_entry(entry(**before), "x")
    journal = Journal(MemoryJournalStore())
    asked = {"prompt": "rain", **given}
    made = GenerationSpec(check_inputs(class_of(old), asked), "https://service").intent("w")
    await journal.create(made)
    new = old.refreshed(Pin.from_entry(entry(**after), "x"))

    assert await known_key(journal, check_inputs(class_of(new), asked)) == made.generation_key


def test_a_pin_keeps_what_each_field_holds() -> None:
    """As it was seen when it was pinned, or as a person said: a later version that sees more changes no key."""
    first = Pin.from_entry(entry(image={"type": "string"}, mood={"type": "string"}, n={"type": "integer"}), "x")
    told = Pin.from_entry(entry(image={"type": "string"}), "x", media={"image": "none"})
    more = Pin.from_entry(entry(image={"type": "string"}, clip_url={"type": "string"}), "x")
    later = told.refreshed(more)
    gone = first.refreshed(Pin.from_entry(entry(image={"type": "integer"}), "x"))

    assert first.media == {"prompt": "none", "image": "image", "mood": "none"}
    assert (told.media["image"], dict(class_of(told).media)) == ("none", {})
    assert gone.media == {"prompt": "none"}
    with pytest.raises(InvalidInput, match="there is no field mask"):
        told.refreshed(more, {"mask": "image"})
    assert later.media == {"prompt": "none", "image": "none", "clip_url": "video"}
