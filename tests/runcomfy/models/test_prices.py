"""What a generation costs at least: the base price times the units that the inputs ask for, or said to be unknown."""

from __future__ import annotations

from typing import Any

import pytest

from runcomfy.models import TextToVideo
from runcomfy.models.pins import Pin, class_of
from runcomfy.models.prices import base_price_of

PROPERTIES = {
    "duration": {"type": "integer", "default": 5},
    "seconds": {"type": "string", "enum": ["auto", "4s", "8s"]},
    "music_length_ms": {"type": "integer"},
    "num_images": {"type": "integer", "default": 1},
    "n": {"type": "integer"},
}


@pytest.mark.parametrize(
    ("unit", "price", "names", "given", "least"),
    [
        ("second", 0.05, ("duration",), {"duration": 8}, 0.4),
        ("second", 0.05, ("duration",), {}, 0.25),
        ("Seconds", 0.5, ("seconds",), {"seconds": "8s"}, 4.0),
        ("second", 0.5, ("seconds",), {"seconds": "auto"}, None),
        ("second", 0.001, ("music_length_ms",), {"music_length_ms": 20_000}, 0.02),
        ("second", 0.5, ("n",), {}, None),
        ("output", 0.03, ("num_images",), {"num_images": 4}, 0.12),
        ("image", 0.03, ("n",), {}, 0.03),
        ("megapixel", 0.03, ("n",), {"n": 2}, None),
        (None, 0.03, ("n",), {"n": 2}, None),
        ("output", 0, ("n",), {}, 0.0),
    ],
)
def test_the_least_price(
    unit: str | None, price: float, names: tuple[str, ...], given: dict[str, Any], least: float | None
) -> None:
    schema = {"type": "object", "properties": {name: PROPERTIES[name] for name in names}}
    entry = {"model_id": "a/model", "input_schema": schema, "base_price_usd": price, "price_unit": unit}

    found = base_price_of(class_of(Pin.from_entry(entry, "a test")).model_validate(given))

    assert found is not None
    assert found.from_usd == (least if least is None else pytest.approx(least))
    assert ("do not say" in found.sentence) == (least is None)


@pytest.mark.parametrize("price", [None, -1, float("nan"), True, "0.1"])
def test_without_a_usable_price_there_is_none(price: Any) -> None:
    entry = {"model_id": "a/model", "input_schema": {"properties": {}}, "base_price_usd": price, "price_unit": "output"}

    assert base_price_of(class_of(Pin.from_entry(entry, "a test")).model_validate({})) is None
    assert base_price_of(TextToVideo(prompt="rain")) is None
