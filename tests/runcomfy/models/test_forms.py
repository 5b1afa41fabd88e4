"""A model's form: it refuses nothing that a run would accept, and shows what a person has to know."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from runcomfy.errors import InvalidInput
from runcomfy.models import check_inputs
from runcomfy.models.forms import deployment_name, description_of, form_of
from runcomfy.models.pins import Pin, class_of
from tests.runcomfy.models.test_schema import ENTRIES, NASTY, bodies

TEXT = {"type": "string"}


def pin_of(properties: dict[str, Any], *required: str, media: dict[str, str] | None = None, **more: Any) -> Pin:
    schema = {"type": "object", "properties": properties, "required": list(required), **more}
    return Pin.from_entry({"model_id": "a/b/c", "input_schema": schema}, "a test", media=media)


def accepts(form: dict[str, Any], body: dict[str, Any]) -> bool:
    """Whether a server would accept it, formats included: Prefect checks them."""
    return bool(Draft202012Validator(form, format_checker=FormatChecker()).is_valid(body))


@settings(max_examples=300)
@given(st.data())
def test_what_a_run_accepts_is_not_refused(data: st.DataObject) -> None:
    pin = Pin.from_entry(data.draw(st.sampled_from(ENTRIES)), "a test")
    body = data.draw(bodies(pin.input_schema))
    try:
        check_inputs(class_of(pin), body)
    except InvalidInput:
        return
    form = form_of(pin)
    assert accepts(form, {name: value for name, value in body.items() if value is not None})


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["model_id"])
def test_each_field_is_there_and_bad_values_are_refused(entry: dict[str, Any]) -> None:
    pin = Pin.from_entry(entry, "a test")
    form, kind = form_of(pin), class_of(pin)

    Draft202012Validator.check_schema(form)
    assert list(form["properties"]) == list(entry["input_schema"]["properties"])
    assert [each["position"] for each in form["properties"].values()] == list(range(len(form["properties"])))
    assert not accepts(form | {"required": []}, {"no-such-field": 1})
    for name, rules in entry["input_schema"]["properties"].items():
        alone = {"type": "object", "properties": {name: form["properties"][name]}}
        assert ("default" in form["properties"][name]) <= (name not in {*kind.media, *kind.texts})
        if "enum" in rules:
            assert not accepts(alone, {name: "none of them"})
        if "minimum" in rules:
            assert not accepts(alone, {name: rules["minimum"] - 1})
        if name in kind.media:
            assert not accepts(alone, {name: 7})
            for given_, good in (("s3://b/k.png", True), ("https://h/k?X-Amz-Signature=0a", False)):
                assert accepts(alone, {name: [given_] if kind.media[name].many else given_}) is good
            assert "s3://bucket/key" in form["properties"][name]["description"]


@pytest.mark.parametrize("name", NASTY)
def test_nasty_schemas_have_forms(name: str) -> None:
    """Nothing refers to somewhere else, and what a run accepts is accepted."""
    properties, body = NASTY[name]
    form = form_of(pin_of(properties))

    Draft202012Validator.check_schema(form)
    assert "$ref" not in str(form)
    assert accepts(form, body)


def test_references_are_written_out_and_end() -> None:
    """One that leads to itself accepts anything there; many that lead to each other do not grow without bound."""
    tree = {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}, "n": {"type": "integer"}}}
    form = form_of(pin_of({"tree": {"$ref": "#/$defs/tree"}}, **{"$defs": {"tree": tree}}))
    assert accepts(form, {"tree": {"n": 1, "left": {"left": 5}}}) and not accepts(form, {"tree": {"n": "x"}})

    doubling = {f"d{n}": {"type": "array", "prefixItems": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)} | {
        "d30": TEXT
    }
    assert len(str(form_of(pin_of({"x": {"$ref": "#/$defs/d0"}}, **{"$defs": doubling})))) < 100_000


def test_a_server_is_asked_nothing_that_it_would_judge_otherwise() -> None:
    """Formats of the service, decimal steps, and what only several properties together say."""
    fields = {
        "when": TEXT | {"format": "date"}, "step": {"type": "float", "multipleOf": 0.1}, "format": {"enum": ["png"]},
        "size": {"type": ["integer", "null"], "minimum": 2}, "either": {"type": ["integer", "string"]},
        "model": TEXT, "inputs": TEXT, "store": TEXT,
    }  # fmt: skip
    form = form_of(pin_of(fields, anyOf=[{"required": ["size"]}, {"required": ["when"]}]))

    assert accepts(form, {"when": "tomorrow", "step": 0.3, "format": "png", "either": "x", "model": "x", "store": "y"})
    assert not accepts(form, {"step": 0.3})
    assert not accepts(form, {"size": 1}) and not accepts(form, {"size": 2, "either": 0.5})
    assert form["properties"]["size"]["type"] == "integer" and "anyOf" not in form


def test_a_medium_that_a_person_named_is_one_in_the_form() -> None:
    fields = {"thing": TEXT | {"description": "What moves.", "pattern": "^https"}}
    form = form_of(pin_of(fields, "thing", media={"thing": "video"}))

    assert form["properties"]["thing"]["description"].startswith("What moves.\n\nA video: s3://bucket/key")
    assert accepts(form, {"thing": "s3://bucket/clip.mp4"}) and not accepts(form, {"thing": ""})
    known = ("u:p@h/k", "u@h/k", "h/k?Expires=1&Signature=ab", "h/k?x=1&sig=ab", "h/k?Key-Pair-Id=a", "h/k#token=1")
    others = ("h/k?SIG=a", "h/k?access_token=a", "h/k?q-sign=a", "h/k?st=1&hmac=a", "h/k?password=a", "h/k?Policy=a")
    for signed in (*known, *others):
        assert not accepts(form, {"thing": f"https://{signed}"}), signed
    for plain in ("https://h/k.mp4?width=300&design=1", "https://h/a@2x.mp4", "s3://bucket/a@2x.mp4"):
        assert accepts(form, {"thing": plain})


def test_the_name_and_what_stands_above() -> None:
    pin = Pin.from_entry(ENTRIES[0] | {"base_price_usd": 0.05, "price_unit": "second"}, "a test")
    assert deployment_name("bytedance/seedance-2.0/pro") == "bytedance-seedance-2.0-pro"
    assert "From $0.05 per second." in description_of(pin) and "archived sounds" in description_of(pin)
