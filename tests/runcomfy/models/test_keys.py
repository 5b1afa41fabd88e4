"""Keys of generations: those of normal texts are what they always were, and others are found under their old ones."""

from __future__ import annotations

import copy
import json
import pickle
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcomfy.errors import InvalidInput
from runcomfy.models import MODELS, ModelInputs, TextToVideo, check_inputs, earlier_key, generation_key
from runcomfy.texts import as_given, normal_text

GOLDEN: dict[str, list[dict[str, Any]]] = json.loads((Path(__file__).parent / "golden_keys.json").read_text())
"""Recorded with the last version that took texts as they were given (3e0329d)."""


def inputs_of(case: dict[str, Any]) -> ModelInputs:
    return check_inputs(MODELS[case["model"]], case["inputs"])


def facts(case: dict[str, Any]) -> dict[str, Any]:
    return {"image_sha256": case["image_sha256"], "variation": case["variation"]}


def test_keys_of_normal_texts_stay_byte_for_byte() -> None:
    """A paid generation under one of these keys can be found under no other."""
    assert len(GOLDEN["normal"]) > 80
    for case in GOLDEN["normal"]:
        assert generation_key(inputs_of(case), **facts(case)) == case["key"], case
        assert earlier_key(inputs_of(case), **facts(case)) is None


def test_the_earlier_key_of_any_other_text_is_the_one_it_had() -> None:
    """Prompt, variation, or both in a form that other programs write."""
    assert len(GOLDEN["other"]) > 30
    for case in GOLDEN["other"]:
        assert generation_key(inputs_of(case), **facts(case)) != case["key"]
        assert earlier_key(inputs_of(case), **facts(case)) == case["key"], case


@pytest.mark.parametrize(
    "text",
    [
        "Caf\u00e9\nat night", "Cafe\u0301\r\nat night", "  Caf\u00e9\rat night\n", "\ufeffCaf\u00e9\nat night \u00a0",
        "Cafe\u0301\x0bat night\u200b",
    ],
)  # fmt: skip
def test_one_text_in_any_form_is_one_generation(text: str) -> None:
    """As a prompt and as a variation; and what is sent is the one form."""
    inputs = TextToVideo(prompt=text)

    assert inputs.prompt == inputs.body()["prompt"] == "Caf\u00e9\nat night"
    assert generation_key(inputs, variation=text) == generation_key(
        TextToVideo(prompt="Caf\u00e9\nat night"), variation="Caf\u00e9\nat night"
    )


@given(st.text())
def test_the_one_form_is_reached_in_one_step_and_forgets_nothing(text: str) -> None:
    """It is NFC, has one kind of line end, none at its ends; and the given form is remembered."""
    normal = normal_text(text)

    assert normal_text(str(normal)) == normal == normal_text(normal)
    assert as_given(normal) == as_given(normal_text(normal)) == text
    assert unicodedata.is_normalized("NFC", normal) and "\r" not in normal and normal.strip() == normal


def test_the_given_form_travels_with_the_inputs() -> None:
    """Through a copy, a pickle (another process, Prefect's storage), and another check of the same values."""
    inputs = TextToVideo(prompt="rain ")
    key = earlier_key(inputs)

    for other in (
        inputs.model_copy(update={"num_frames": 81}),
        copy.deepcopy(inputs),
        pickle.loads(pickle.dumps(inputs)),
        TextToVideo(**inputs.model_dump()),
        TextToVideo.model_validate(inputs),
    ):
        assert earlier_key(other) == key is not None
    assert inputs == TextToVideo(prompt="rain")


@pytest.mark.parametrize(
    "prompt",
    [
        "", " ", "\t\r\n", "\u00a0", "\u3000", "\u2003\u2009", "\u200b", "\ufeff", "\u2060", "\u200e\u200f\u202a",
        "\u2066\u2069", "\u00ad", "\u180e", "\ufe0f", "\U000e0100", "\U000e0041\U000e007f", "\u0301", "\u20dd",
        "\u3164", "\u2800", "\u115f", "\u034f", "\x07", "\x1a", "\0", "\x9f", "\ue000", "\U000f0000", "\uffff",
        "\ufdd0", "\ufffd\ufffd", "\ufffc", " \u200b\x07\ufe0f ", "\u2028\u2029", "\U000e0fff", "\u200d",
    ],
    ids=ascii,
)  # fmt: skip
@pytest.mark.parametrize("model", MODELS)
def test_a_prompt_that_says_nothing_is_refused(prompt: str, model: str) -> None:
    """Blanks, controls, formats, marks without a letter, private characters: no video of these is paid for."""
    with pytest.raises(InvalidInput, match=r"prompt: it (says nothing|holds the NUL character)") as caught:
        check_inputs(
            MODELS[model], {"prompt": prompt, "image_url": "s3://b/k.png"} if "image" in model else {"prompt": prompt}
        )

    assert [field for field, _ in caught.value.violations] == ["prompt"]


@pytest.mark.parametrize(
    "prompt",
    ["a", "\U0001f98a", "\u2764\ufe0f", "?", "7", "\u0928\u093f", "\u200f\u05e9\u05dc", "\U0001fae9", "a\u200db"],
)
def test_a_meaningful_text_is_sent(prompt: str) -> None:
    """An emoji, one newer than this Python, a letter with marks; whether it is wise is another question."""
    assert TextToVideo(prompt=prompt).prompt == prompt


@pytest.mark.parametrize("character", ["\0", "\x01", "\x08", "\x1b", "\x1f", "\x7f", "\x80", "\x93"], ids=ascii)
def test_a_control_character_within_a_text_is_refused(character: str) -> None:
    """It is the sign of a text that was damaged or read in a wrong encoding; which one is said, the text is not."""
    named = "NUL" if character == "\0" else rf"U\+{ord(character):04X}"

    with pytest.raises(InvalidInput, match=rf"prompt: it holds the .*{named}") as caught:
        check_inputs(TextToVideo, {"prompt": f"secret{character}rain"})

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("seed", [2.0**53, -(2.0**53), 1e300, 12345678901234567890.0])
def test_a_number_that_may_have_been_rounded_is_refused(seed: float) -> None:
    """From 2^53 on a float is not exact; as an integer any number is."""
    with pytest.raises(InvalidInput, match="seed: it may have been rounded"):
        check_inputs(TextToVideo, {"prompt": "rain", "seed": seed})

    assert check_inputs(TextToVideo, {"prompt": "rain", "seed": int(seed)}).seed == int(seed)
    assert check_inputs(TextToVideo, {"prompt": "rain", "seed": 2.0**53 - 1}).seed == 2**53 - 1
