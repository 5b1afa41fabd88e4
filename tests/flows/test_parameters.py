"""What an event's template renders, parsed at the entry of the flows: every setting of both models, and all else."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError
from pydantic import SecretStr

from blocks import MediaStore, RunComfyCredentials
from flows.batch import batch
from flows.image_to_video import image_to_video
from flows.inbox import inbox
from flows.parameters import WrongParameter
from flows.text_to_video import text_to_video
from runcomfy.errors import InvalidInput
from runcomfy.models import ImageToVideoSettings, TextToVideoSettings
from runcomfy.models.orders import OrderDefaults
from runcomfy.policy import Deadlines, Polling

GIVEN: dict[Any, dict[str, Any]] = {
    image_to_video: {"image": "s3://pictures/a.png", "prompt": "rain"},
    text_to_video: {"prompt": "rain"},
    batch: {"manifest": "s3://pictures/a.csv"},
    inbox: {"source": "s3://pictures/in"},
}
SETTINGS: dict[Any, dict[str, tuple[Any, str]]] = {
    # A value, and a text that cannot be parsed as one.
    image_to_video: {
        "resolution": ("480p", "1080p"), "num_frames": (90, "80"), "frames_per_second": (20, "fast"), "seed": (7,
        "lucky"),
        "enable_prompt_expansion": (False, "maybe"), "num_inference_steps": (30, "1.5"),
        "enable_safety_checker": (True, "perhaps"),
    },
    text_to_video: {
        "seed": (12345678901234567890, "1.23457E+11"), "num_frames": (97, "82"), "frames_per_second": (5, "4"),
        "resolution": ("580p", "high"),
        "aspect_ratio": ("9:16", "1:1"), "enable_prompt_expansion": (False, "2"),
    },
}  # fmt: skip
EACH = [(flow, name, *pair) for flow, settings in SETTINGS.items() for name, pair in settings.items()]
OTHERS: list[tuple[Any, str, Any, Any]] = [
    # The flow, a parameter, the rendered text, its value.
    *((flow, "deadlines", {"queue_timeout_seconds": "60"}, Deadlines(queue_timeout_seconds=60)) for flow in GIVEN),
    *((flow, "deadlines", {"queue_timeout_seconds": "", "run_timeout_seconds": None}, Deadlines()) for flow in GIVEN),
    *((flow, "polling", '{"max_failures": "3", "fraction": "0.1"}', Polling(max_failures=3,
    fraction=0.1)) for flow in GIVEN),
    *((flow, "polling", "None", Polling()) for flow in GIVEN),
    *((flow, "on_uncertain", "pay_again", "pay_again") for flow in GIVEN),
    *((flow, "on_uncertain", nothing, "stop") for flow in GIVEN for nothing in ("", None, "None", "null")),
    *((flow, "on_interrupt", nothing, "ask") for flow in GIVEN for nothing in ("", None)),
    *((flow, "on_defect", "fail", "fail") for flow in GIVEN),
    *((flow, "on_defect", nothing, None) for flow in GIVEN for nothing in ("", None, "None")),
    *((flow, "contact_sheets", "true", True) for flow in GIVEN),
    *((flow, "contact_sheets", nothing, None) for flow in GIVEN for nothing in ("", None, "null")),
    *((flow, "variation", 7, "7") for flow in SETTINGS),
    *((flow, "variation", None, "") for flow in SETTINGS),
    *((flow, "variation", "None", "None") for flow in SETTINGS),
    (batch, "budget_usd", "2.5", 2.5), (batch, "budget_usd", "", None), (batch, "at_once", "5", 5), (batch,
    "at_once", None, 50),
    (batch, "rows_per_shard", "100", 100), (batch, "rows_per_shard", "", None), (batch, "usd_per_video", "None", None),
    (batch, "allow_placeholder_prompts", "true", True), (batch, "allow_placeholder_prompts", "", False),
    (batch, "shard_deployment", "", "batch-shard/batch-shard"),
    (batch, "defaults", {"seed": "7", "num_frames": "", "variation": 2}, OrderDefaults(seed=7, variation="2")),
    (inbox, "settings", {"seed": "7", "num_inference_steps": ""}, ImageToVideoSettings(seed=7)),
    (inbox, "at_once", "", 50), (inbox, "idle_seconds", "5", 5.0), (inbox, "prompt", None, ""), (inbox,
    "hidden_seconds", "null", 120),
]  # fmt: skip


def read(flow: Any, **given: Any) -> dict[str, Any]:
    """Validate parameters as Prefect does before a run."""
    account = RunComfyCredentials(api_token=SecretStr("a-token-of-this-test"))
    blocks = {"credentials": account, "store": MediaStore(bucket="videos")}
    found: dict[str, Any] = flow.validate_parameters(GIVEN[flow] | blocks | given)
    return found


def test_the_table_has_every_setting() -> None:
    """Of both models."""
    assert set(SETTINGS[image_to_video]) == set(ImageToVideoSettings.model_fields)
    assert set(SETTINGS[text_to_video]) == set(TextToVideoSettings.model_fields)


@pytest.mark.parametrize(("flow", "name", "value", "wrong"), EACH, ids=lambda value: getattr(value, "name", value))
def test_every_setting_can_be_given_as_text(flow: Any, name: str, value: Any, wrong: str) -> None:
    """As templates of several kinds render it, alone and with others that the event lacks."""
    texts = {str(value), json.dumps(value).strip('"'), f" {value} "}
    missing = dict.fromkeys(SETTINGS[flow], "") | {"seed": None}

    for rendered in (value, *texts):
        assert getattr(read(flow, settings={name: rendered})["settings"], name) == value
        assert getattr(read(flow, settings=missing | {name: rendered})["settings"], name) == value
    for whole in (json.dumps({name: value}), str({name: value}), str({name: str(value)})):
        assert getattr(read(flow, settings=whole)["settings"], name) == value


@pytest.mark.parametrize(("flow", "name", "value", "wrong"), EACH, ids=lambda value: getattr(value, "name", value))
def test_a_setting_that_the_event_lacks_is_left_out(flow: Any, name: str, value: Any, wrong: str) -> None:
    """The model's default counts, so the key is that of a run without it."""
    plain = read(flow, settings={})["settings"]

    for nothing in ("", " ", "None", "null", None):
        assert read(flow, settings={name: nothing})["settings"] == plain


@pytest.mark.parametrize(("flow", "name", "value", "wrong"), EACH, ids=lambda value: getattr(value, "name", value))
def test_a_wrong_text_is_named_with_its_field(flow: Any, name: str, value: Any, wrong: str) -> None:
    """As both errors that a caller may catch, which can be pickled; nothing was paid for."""
    with pytest.raises(WrongParameter) as caught:
        read(flow, settings={name: wrong})

    error = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(error, InvalidInput) and isinstance(error, ParameterTypeError)
    assert f"settings.{name}: " in str(error) and repr(wrong) in str(error) and "Nothing was paid for" in str(error)
    assert [field for field, _ in error.violations] == [f"settings.{name}"]


@pytest.mark.parametrize(("flow", "name", "rendered", "expected"), OTHERS, ids=lambda v: getattr(v, "name", None))
def test_every_other_parameter_can_be_given_as_text(flow: Any, name: str, rendered: Any, expected: Any) -> None:
    """Deadlines, the variation, what to do about an uncertain submission, a budget …"""
    assert read(flow, **{name: rendered})[name] == expected


@pytest.mark.parametrize(
    ("flow", "given", "said"),
    [
        (text_to_video, {"prompt": ""}, "prompt: it is missing"), (text_to_video, {"prompt": None},
        "prompt: it is missing"),
        (image_to_video, {"image": " "}, "image: it is missing"), (batch, {"manifest": ""}, "manifest: it is missing"),
        (text_to_video, {"settings": "seed 7"}, "settings: it is no object"), (text_to_video, {"settings": [7]},
        "settings: it is no object"),
        (text_to_video, {"settings": {"sed": "7"}}, "settings.sed: "), (text_to_video, {"on_uncertain": "maybe"},
        "on_uncertain: "),
        (text_to_video, {"deadlines": {"run_timeout_seconds": "soon"}}, "deadlines.run_timeout_seconds: "),
        (batch, {"budget_usd": "cheap"}, "budget_usd: "), (batch, {"at_once": "0"}, "at_once: "),
        (batch, {"defaults": {"seed": "12,000"}}, "defaults.seed: "),
    ],
)  # fmt: skip
def test_a_wrong_text_of_another_parameter_is_named(flow: Any, given: dict[str, Any], said: str) -> None:
    """By the parameter."""
    with pytest.raises(WrongParameter, match=said):
        read(flow, **given)


def test_a_secret_in_a_wrong_place_is_not_repeated() -> None:
    """A value is shown without the query of a URL, and short."""
    with pytest.raises(WrongParameter) as caught:
        read(text_to_video, settings={"seed": "https://h/a?X-Amz-Signature=secret", "resolution": "p" * 500})

    assert "secret" not in str(caught.value) and "p" * 100 not in str(caught.value)


def test_python_callers_have_to_use_the_types() -> None:
    """The models themselves do not accept text for a number."""
    for kind in (ImageToVideoSettings, TextToVideoSettings):
        with pytest.raises(ValueError, match="seed"):
            kind(seed="7")  # type: ignore[arg-type]
