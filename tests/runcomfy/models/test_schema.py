"""A class from a schema accepts what a JSON-schema validator accepts, but for the differences that are named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from runcomfy.errors import InvalidInput
from runcomfy.models import ModelInputs, check_inputs, generation_key
from runcomfy.models.media_fields import MediaKind
from runcomfy.models.schema import DIFFERENCES, class_of_schema, standard
from runcomfy.texts import unusable

ENTRIES = [
    json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parents[2] / "contract" / "models").glob("*.json"))
]
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", " ", "5", "auto", "16:9", "720p", "a cat"]), st.text(max_size=5),
    st.recursive(st.integers(0, 3), lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(), inner)),
)  # fmt: skip


def value_of(rules: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values near a property's bounds, and some of any kind."""
    near: list[st.SearchStrategy[Any]] = [JUNK]
    if "enum" in rules:
        near += [st.sampled_from(rules["enum"])] * 4
    match rules.get("type"):
        case "integer" | "number" | "float":
            bounds = [rules[name] for name in ("minimum", "maximum") if name in rules]
            near += [st.sampled_from([each + step for each in bounds or [0] for step in (-1, 0, 0.5, 1, 1.0)])] * 4
        case "boolean":
            near += [st.booleans()] * 4
        case "string":
            near += [st.sampled_from(["a cat", "https://a/b.png", "x" * 501])] * 4
        case "array":
            near += [st.lists(st.just("https://a/b.png"), max_size=12)] * 4
    return st.one_of(near)


@st.composite
def bodies(draw: st.DrawFn, schema: dict[str, Any]) -> dict[str, Any]:
    names = [name for name in schema["properties"] if name in schema["required"] or draw(st.integers(0, 3))]
    return {name: draw(value_of(schema["properties"][name])) for name in names}


def is_expected(kind: type[ModelInputs], schema: dict[str, Any], body: dict[str, Any]) -> bool:
    """Whether the body should be accepted: by a validator of JSON Schema, and the named differences."""
    sent = {name: value for name, value in body.items() if value is not None}
    samples = {*kind.media, *kind.texts}
    fields = schema["properties"]
    filled = {
        name: each["default"] for name, each in fields.items() if "default" in each and name not in samples
    } | sent
    for name, value in sent.items():
        if isinstance(value, float) and fields[name].get("type") == "integer" and abs(value) >= 2**53:
            return False
        if name in kind.texts and isinstance(value, str) and name in schema["required"] and unusable(value.strip()):
            return False
    return Draft202012Validator(standard(schema)).is_valid(filled)


def agrees(entry: dict[str, Any], body: dict[str, Any]) -> None:
    schema = entry["input_schema"]
    kind = class_of_schema(entry["model_id"], schema)
    try:
        inputs = check_inputs(kind, body)
    except InvalidInput:
        assert not is_expected(kind, schema, body)
    else:
        assert is_expected(kind, schema, body)
        assert generation_key(inputs) == generation_key(pickle.loads(pickle.dumps(inputs)))
        Draft202012Validator(standard(schema)).validate(inputs.body())


@settings(max_examples=250)
@given(st.data())
def test_it_agrees_with_a_validator(data: st.DataObject) -> None:
    entry = data.draw(st.sampled_from(ENTRIES))
    agrees(entry, data.draw(bodies(entry["input_schema"])))


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["model_id"])
def test_it_agrees_on_every_schema(entry: dict[str, Any]) -> None:
    @settings(max_examples=150)
    @given(bodies(entry["input_schema"]))
    def agree(body: dict[str, Any]) -> None:
        agrees(entry, body)

    agree()


def made(properties: dict[str, Any], required: tuple[str, ...] = (), **more: Any) -> type[ModelInputs]:
    return class_of_schema("a/b/c", {"type": "object", "properties": properties, "required": list(required), **more})


def refusal(kind: type[ModelInputs], **values: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        check_inputs(kind, values)
    return caught.value.message


def test_the_named_differences() -> None:
    """One case for each line of the list."""
    kind = made(
        {
            "prompt": {"type": "string", "default": "a sample"}, "image": {"type": "string", "default": "https://x/y.png"},
            "size": {"type": "string", "enum": ["s", "m"], "default": "xl"}, "mode": {"enum": ["a"], "default": "a"},
            "count": {"type": "integer"}, "speed": {"type": "float"},
        },
        ("prompt", "mode"), additionalProperties=True,
    )  # fmt: skip
    assert len(DIFFERENCES) == 10
    assert check_inputs(kind, {"prompt": "x", "count": None}).body() == {"prompt": "x", "mode": "a"}
    assert "did you mean count?" in refusal(kind, prompt="x", cuont=1)
    assert "says nothing" in refusal(kind, prompt=" \n")
    assert check_inputs(kind, {"prompt": "e\u0301 "}).body()["prompt"] == "\u00e9"
    assert "not valid Unicode" in refusal(kind, prompt="\ud800")
    assert "prompt: Field required" in refusal(kind)
    assert "size" not in check_inputs(kind, {"prompt": "x"}).body()
    assert check_inputs(kind, {"prompt": "x"}).body()["mode"] == "a"
    assert "finite" in refusal(kind, prompt="x", speed=float("nan"))
    assert "rounded" in refusal(kind, prompt="x", count=1e17)
    assert check_inputs(made({"x": {"type": "number", "multipleOf": 0.1}}), {"x": 0.3}).body() == {"x": 0.3}
    secret = ("https://h/x?X-Amz-Signature=1", " https://h/x?sig=1", "https://user:word@h/x")
    with_default = made({"mode": {"type": "string", "enum": ["a", "b"], "default": "b"}}, required=("mode",))
    assert check_inputs(with_default, {"mode": None}).body() == check_inputs(with_default, {}).body() == {"mode": "b"}
    for file in ("photo.jpg", " photo.jpg", "s3://b/k", *secret, "data:image/png;base64,AA"):
        assert "names a file" in refusal(made({"shots": {"type": "array"}}), shots=[{"image_url": file}])
    assert check_inputs(made({"shots": {"type": "array"}}), {"shots": ["https://h/@me.png"]})


TEXT = {"type": "string"}
NASTY: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no prompt, odd names": (
        {
            "Bild-URL": {"type": "string", "format": "image_uri"},
            "class": {"type": "integer"},
            "model_id": {"type": "string"},
        },
        {"Bild-URL": "https://a/b.png", "class": 3, "model_id": "x"},
    ),
    "names of methods": (
        {
            "body": {"type": "string"},
            "copy": {"type": "boolean"},
            "json": {"type": "object"},
            "_x": {"type": "integer"},
        },
        {"body": "x", "copy": True, "json": {"a": [1]}, "_x": 1},
    ),
    "structured list": (
        {
            "shots": {
                "type": "array",
                "items": {"type": "object", "properties": {"t": {"type": "float"}}, "required": ["t"]},
            }
        },
        {"shots": [{"t": 1.5}]},
    ),
    "huge enumeration": ({"voice": {"type": "string", "enum": [f"v{n}" for n in range(5000)]}}, {"voice": "v4999"}),
    "mixed enumeration": ({"level": {"enum": [1, "max", None, 2.5]}}, {"level": 2.5}),
    "draft 4": ({"n": {"type": "number", "minimum": 0, "exclusiveMinimum": True}}, {"n": 0.1}),
    "a pattern that does not compile": ({"x": {"type": "string", "pattern": "(?<bad"}}, {"x": "anything"}),
    "a reference that leads nowhere": ({"x": {"$ref": "https://elsewhere.example/schema.json"}}, {"x": [1]}),
    "a type of its own": ({"mask": {"type": "file"}}, {"mask": {"any": "thing"}}),
    "nullable": ({"x": {"type": "integer", "nullable": True}}, {"x": 4}),
    "an empty schema": ({"x": {}}, {"x": {"a": 1}}),
    "either of two": ({"x": {"anyOf": [{"type": "string"}, {"type": "object", "required": ["w"]}]}}, {"x": {"w": 1}}),
}


@pytest.mark.parametrize("name", NASTY)
def test_schemas_that_nobody_has_seen(name: str) -> None:
    """They give a class, which sends what was given under the names of the schema."""
    properties, body = NASTY[name]
    kind = made(properties)

    assert check_inputs(kind, body).body() == body
    assert pickle.loads(pickle.dumps(check_inputs(kind, body))).body() == body


def test_refusals_name_the_place() -> None:
    nested = {"type": "object", "properties": {"w": {"type": "integer", "minimum": 1}}, "required": ["w"]}
    kind = made({"size": nested, "voice": {"type": "string", "enum": [f"voice-{n}" for n in range(99)]}})

    assert "size: at w: it has to be 1 or more" in refusal(kind, size={"w": 0})
    assert "size: it lacks w" in refusal(kind, size={})
    assert "one of 99 choices" in refusal(kind, voice="voice-1O")


def test_fields_together() -> None:
    """What a schema says of several properties is checked too."""
    kind = made({"a": {"type": "integer"}, "b": {"type": "integer"}}, oneOf=[{"required": ["a"]}, {"required": ["b"]}])

    assert check_inputs(kind, {"a": 1}).body() == {"a": 1}
    refusal(kind, a=1, b=2)
    refusal(kind)


@pytest.mark.parametrize(
    ("name", "rules", "kind", "many"),
    [
        ("image_url", {"type": "string"}, MediaKind.IMAGE, False),
        ("first_frame", {"type": "string"}, MediaKind.IMAGE, False),
        ("referenceVideoUrls", {"type": "array"}, MediaKind.VIDEO, True),
        ("x", {"type": "array", "items": {"type": "string", "format": "audio_uri"}}, MediaKind.AUDIO, True),
        ("image", {"type": "array", "format": "image_uris"}, MediaKind.IMAGE, True),
        ("image_size", {"type": "string"}, None, False),
        ("image_tail", {"anyOf": [{"type": "string"}, {"type": "null"}]}, MediaKind.IMAGE, False),
        ("image", {"type": "string", "pattern": "^https?://", "nullable": True}, MediaKind.IMAGE, False),
        ("audio_setting", {"type": "string", "enum": ["auto"]}, None, False),
        ("num_frames", {"type": "integer"}, None, False),
        ("elements", {"type": "array", "items": {"type": "object"}}, None, False),
    ],
)
def test_media_fields(name: str, rules: dict[str, Any], kind: MediaKind | None, *, many: bool) -> None:
    found = made({name: rules}).media.get(name)

    assert (found and found.kind, bool(found and found.many)) == (kind, many)


def test_a_value_that_is_the_default_counts_as_not_given() -> None:
    """And 1 is 1.0; but not for what has no default."""
    kind = made({"speed": {"type": "number", "default": 1}, "steps": {"type": "integer"}})
    keys = [generation_key(check_inputs(kind, body)) for body in ({}, {"speed": 1}, {"speed": 1.0}, {"steps": 1})]

    assert len(set(keys)) == 2
    assert keys[0] == keys[1] == keys[2]


def test_what_is_left_out_is_not_what_is_the_default() -> None:
    """`null` sends nothing where the default would be sent: two generations."""
    kind = made({"steps": {"type": "integer", "default": 20}})
    keys = [generation_key(check_inputs(kind, body)) for body in ({}, {"steps": 20}, {"steps": None})]

    assert keys[0] == keys[1] != keys[2]


def test_a_medium_may_be_a_path_whatever_its_pattern_is() -> None:
    kind = made({"image": {"type": "string", "pattern": "^https?://", "maxLength": 5}}, ("image",))

    assert check_inputs(kind, {"image": "s3://bucket/a.png"}).body() == {"image": "s3://bucket/a.png"}
    assert "name a file" in refusal(made({"images": {"type": "array"}}), images=[{"url": "x"}])


def test_the_sample_of_a_nullable_text_is_never_sent() -> None:
    kind = made({"prompt": {"type": ["string", "null"], "default": "A sample prompt of a fox"}})

    assert check_inputs(kind, {}).body() == {}


@pytest.mark.parametrize(
    "rules", [{"allOf": 3}, {"anyOf": []}, {"dependentRequired": {"a": 1}}, {"$ref": "#/$defs/x"}], ids=str
)
def test_what_no_validator_can_apply_is_left_to_the_service(rules: dict[str, Any]) -> None:
    kind = made({"x": rules}, **{"$defs": {"x": {"$ref": "#/$defs/x"}}})

    assert check_inputs(kind, {"x": {"a": 1}}).body() == {"x": {"a": 1}}
