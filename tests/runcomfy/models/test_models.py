"""The typed inputs against the published schemas, property by property."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runcomfy.errors import InvalidInput
from runcomfy.models import (
    IMAGE_TO_VIDEO,
    MODELS,
    TEXT_TO_VIDEO,
    ImageToVideo,
    TextToVideo,
    check_inputs,
    generation_key,
)
from runcomfy.texts import normal_text, unusable

CONTRACT = Path(__file__).parents[2] / "contract"
SCHEMAS: dict[str, dict[str, Any]] = {
    IMAGE_TO_VIDEO: json.loads((CONTRACT / "wan-2-1-image-to-video.input.json").read_text()),
    TEXT_TO_VIDEO: json.loads((CONTRACT / "wan-2-1-text-to-video.input.json").read_text()),
}
VALID: dict[str, dict[str, Any]] = {
    IMAGE_TO_VIDEO: {"prompt": "rain", "image_url": "https://example.com/a.png"},
    TEXT_TO_VIDEO: {"prompt": "rain"},
}
PROPERTIES = [(model, name) for model, schema in SCHEMAS.items() for name in schema["properties"]]

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(0, 110)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["480p", "580p", "720p", "1080p", "16:9", "9:16", "1:1", 81.0, 81.5, 85, 97, "81", "true"])
    | st.lists(st.integers(), max_size=2)
)


def accepts(model: str, values: dict[str, Any]) -> bool:
    try:
        check_inputs(MODELS[model], values)
    except InvalidInput:
        return False
    return True


def schema_accepts(model: str, values: dict[str, Any]) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMAS[model]).is_valid(values))


@pytest.mark.parametrize("model", SCHEMAS)
def test_the_models_have_exactly_the_published_properties(model: str) -> None:
    """Nothing published is missing, nothing is invented, and the same properties are required."""
    fields = MODELS[model].model_fields

    assert set(fields) == set(SCHEMAS[model]["properties"])
    assert {name for name, field in fields.items() if field.is_required()} == set(SCHEMAS[model]["required"])


@pytest.mark.parametrize(("model", "name"), PROPERTIES)
def test_defaults_are_the_published_ones(model: str, name: str) -> None:
    """An optional property has the published default, or none."""
    field = MODELS[model].model_fields[name]

    if not field.is_required():
        assert field.default == SCHEMAS[model]["properties"][name].get("default")


@pytest.mark.parametrize(("model", "name"), PROPERTIES)
def test_every_bound_is_held_on_both_sides(model: str, name: str) -> None:
    """At a bound or in an enumeration a value is accepted; one step outside it is refused, and named."""
    published = SCHEMAS[model]["properties"][name]
    inside = [published[bound] for bound in ("minimum", "maximum") if bound in published] + published.get("enum", [])
    outside = [published["minimum"] - 1, published["maximum"] + 1] if "minimum" in published else []
    outside += ["", "no such choice", 0] if "enum" in published else []
    outside += {"string": [1, True], "integer": ["81", 81.5, True], "boolean": ["true", 1]}[published["type"]]

    for value in inside:
        assert accepts(model, VALID[model] | {name: value})
    for value in outside:
        with pytest.raises(InvalidInput) as caught:
            check_inputs(MODELS[model], VALID[model] | {name: value})
        assert [field for field, _ in caught.value.violations] == [name]


@pytest.mark.parametrize(("model", "name"), PROPERTIES)
@given(value=SCALARS)
@settings(max_examples=60)
def test_a_value_is_accepted_if_and_only_if_the_schema_accepts_it(model: str, name: str, value: Any) -> None:
    """One property at a time, over any JSON value; `None` leaves out an optional one without default.

    Beyond the schema, what says nothing and what may have been rounded is refused.
    """
    field = MODELS[model].model_fields[name]
    if value is None and not field.is_required() and field.default is None:
        expected = schema_accepts(model, VALID[model])
    else:
        expected = schema_accepts(model, VALID[model] | {name: value})

    refused = isinstance(value, float) and abs(value) >= 2**53
    refused |= name == "prompt" and isinstance(value, str) and bool(unusable(normal_text(value)))
    assert accepts(model, VALID[model] | {name: value}) == (expected and not refused)


@pytest.mark.parametrize("model", SCHEMAS)
@given(st.data())
@settings(max_examples=150)
def test_every_body_is_accepted_by_the_schema(model: str, data: st.DataObject) -> None:
    """Whatever is accepted makes a body that the published schema accepts."""
    names = data.draw(st.sets(st.sampled_from(sorted(SCHEMAS[model]["properties"]))))
    values = VALID[model] | {name: data.draw(SCALARS, label=name) for name in names}

    try:
        inputs = check_inputs(MODELS[model], values)
    except InvalidInput:
        return
    assert schema_accepts(model, inputs.body())


@pytest.mark.parametrize("model", SCHEMAS)
def test_every_violation_is_named_at_once(model: str) -> None:
    """The error lists all that is wrong, a misspelt name included, and repeats no value."""
    with pytest.raises(InvalidInput) as caught:
        check_inputs(MODELS[model], {"frames_per_second": 60, "num_frames": 5, "num_frame": 81, "seed": "secret"})

    assert {"prompt", "frames_per_second", "num_frames", "num_frame", "seed"} <= {f for f, _ in caught.value.violations}
    assert "secret" not in str(caught.value)


def test_a_signed_url_is_not_in_the_representation() -> None:
    """Inputs can be logged: the image's URL is left out."""
    inputs = ImageToVideo(prompt="rain", image_url="https://example.com/a.png?X-Amz-Signature=abc")

    assert "Signature" not in repr(inputs)


def test_settings_without_a_default_are_left_to_the_service() -> None:
    """What has no published default is not in the body unless it was given; what has one is."""
    assert "num_inference_steps" not in ImageToVideo(**VALID[IMAGE_TO_VIDEO]).body()
    assert TextToVideo(prompt="rain").body() == {
        "prompt": "rain",
        "num_frames": 81,
        "frames_per_second": 16,
        "resolution": "720p",
        "aspect_ratio": "16:9",
        "enable_prompt_expansion": True,
    }


def test_the_same_inputs_are_the_same_generation_however_the_image_is_signed() -> None:
    """The key is over the image's content, not its URL; spelling out a default changes nothing."""
    one = ImageToVideo(prompt="rain", image_url="https://example.com/a.png?sig=1")
    other = ImageToVideo(prompt="rain", image_url="s3://bucket/a.png", num_frames=81)

    assert generation_key(one, image_sha256="ab") == generation_key(other, image_sha256="ab")


def test_another_image_seed_model_or_variation_is_another_generation() -> None:
    """Whatever could make another video makes another key."""
    inputs = ImageToVideo(prompt="rain", image_url="s3://bucket/a.png")
    keys = {
        generation_key(inputs, image_sha256="ab"),
        generation_key(inputs, image_sha256="cd"),
        generation_key(inputs, image_sha256="ab", variation="2"),
        generation_key(inputs.model_copy(update={"seed": 1}), image_sha256="ab"),
        generation_key(TextToVideo(prompt="rain")),
    }

    assert len(keys) == 5


def test_another_model_is_a_class_and_a_line_in_the_registry(tmp_path: Path) -> None:
    """Then all know it: manifest, check, key, paid call, sandbox, journal, workload, catalogue."""
    manifest = tmp_path / "rows.csv"
    manifest.write_text(
        "model,image,prompt,strength,style,seed\n"
        "restyle,https://host/k.png,a cat,70.0,ink,\n"
        "acme/restyle-3/restyle,,a cat,,,7\n"
    )

    done = subprocess.run(
        [sys.executable, "-m", "tests.runcomfy.third_model", str(manifest)],
        cwd=CONTRACT.parent.parent, capture_output=True, text=True,
    )  # fmt: skip

    assert done.stdout == "as any other\n", done.stderr
