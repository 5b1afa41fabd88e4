"""What is asked for in a row of a manifest, in a sidecar file or in an object's metadata: texts, checked."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runcomfy.errors import InvalidInput
from runcomfy.models.inputs import ModelInputs, check_inputs
from runcomfy.models.registry import MODELS, default_model, short_name, short_names
from runcomfy.texts import unwritable, whole_number, why_not_whole
from runcomfy.values import StagedImage

__all__ = ["FIELDS", "TEXTS", "Order", "OrderDefaults", "read_order", "unknown_field"]

_OWN = ("image", "prompt", "model", "variation")
FIELDS = (*_OWN, *sorted(frozenset().union(*(kind.setting_names() for kind in MODELS.values()))))
"""Every name that an order may give."""
TEXTS = tuple(sorted({"model", "prompt", "variation"}.union(*(kind.text_settings() for kind in MODELS.values()))))
"""The names whose values are texts in every model; a number there is a mistake."""

_UNSTAGED = "s3://not-staged-yet/image"


class Order(BaseModel):
    """A generation that is asked for, checked except for its image, which is staged later."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_id: str
    prompt: str
    image: str | None = None
    """A path, an `https://` URL or an `s3://` URI; `None` for models that take none."""
    settings: dict[str, Any] = {}
    """The model's settings that were given."""
    variation: str = ""

    def inputs(self, image: StagedImage | None) -> ModelInputs:
        """Return the model's inputs with the staged image.

        Raises:
            InvalidInput: with every violation, as `violations`.
        """
        kind = MODELS[self.model_id]
        staged = {kind.image_field: image.uri if image else _UNSTAGED} if kind.takes_image() else {}
        return check_inputs(kind, {"prompt": self.prompt, **self.settings, **staged})


class OrderDefaults(BaseModel):
    """Defaults for every order that does not set them itself; empty ones are left to the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str | None = Field(default=None, title="Prompt", description="For those that have none.")
    resolution: Literal["480p", "580p", "720p"] | None = Field(
        default=None, title="Resolution", description="Length of the shorter side; 580p is for text-to-video only."
    )
    aspect_ratio: Literal["16:9", "9:16"] | None = Field(
        default=None, title="Aspect ratio", description="Width to height; for text-to-video only."
    )
    num_frames: int | None = Field(default=None, title="Number of frames", description="81 to 100.")
    frames_per_second: int | None = Field(default=None, title="Frame rate", description="5 to 24 frames per second.")
    seed: int | None = Field(default=None, title="Seed")
    enable_prompt_expansion: bool | None = Field(
        default=None, title="Magic prompt", description="Let the service enrich the prompts."
    )
    num_inference_steps: int | None = Field(
        default=None, title="Inference steps", description="For image-to-video only."
    )
    enable_safety_checker: bool | None = Field(
        default=None, title="Safety checker", description="For image-to-video only."
    )
    variation: str | None = Field(
        default=None, title="Variation", description="Any text, for another take of everything."
    )

    def given(self) -> dict[str, Any]:
        """Return what is not empty."""
        return self.model_dump(exclude_none=True)


def read_order(values: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> Order:
    """Return what is asked for; texts are converted to numbers or truth values where a setting is one.

    Args:
        values: Named as in `FIELDS`. An empty text, or `None`, is not given. The default model is
            `default_model`: image-to-video with an image, text-to-video without one.
        defaults: Used where `values` gives nothing; settings that the model does not know are left out.

    Raises:
        InvalidInput: with every violation, as `violations`: pairs of a field and a sentence.
    """
    given = {str(name).strip(): value for name, value in values.items() if not _empty(value)}
    found = [(name, unknown_field(name)) for name in given if name not in FIELDS]
    merged = {name: value for name, value in (defaults or {}).items() if not _empty(value)} | given
    image = str(merged["image"]).strip() if "image" in merged else None
    named = str(merged.get("model", "")).strip()
    model_id = short_names().get(named, named) or default_model(image=bool(image))
    if model_id not in MODELS:
        found.append(("model", f"there is no model {named!r} here; it is one of {', '.join(sorted(short_names()))}"))
        raise _refusal(found)
    kind, name_of_kind = MODELS[model_id], short_name(model_id)
    if kind.takes_image() and image is None:
        found.append(("image", f"{name_of_kind} needs one"))
    if not kind.takes_image() and "image" in given:
        found.append(("image", f"{name_of_kind} takes none"))
    if not str(merged.get("prompt", "")).strip():
        found.append(("prompt", "it is missing"))
    found += [
        (name, sentence) for name in ("image", "variation") if (sentence := unwritable(str(merged.get(name, ""))))
    ]
    known, texts = kind.setting_names(), kind.text_settings()
    settings = {name: _value(value, is_text=name in texts) for name, value in merged.items() if name in known}
    found += [
        (name, sentence)
        for name, value in settings.items()
        if isinstance(value, str) and name not in texts and (sentence := why_not_whole(value))
    ]
    found += [
        (name, f"{name_of_kind} has no such setting")
        for name in given
        if name in FIELDS and name not in _OWN and name not in settings
    ]
    order = Order(
        model_id=model_id,
        prompt=str(merged.get("prompt", "")),
        image=image if kind.takes_image() else None,
        settings=settings,
        variation=str(merged.get("variation", "")),
    )
    try:
        order.inputs(None)
    except InvalidInput as error:
        reported = {name for name, _ in found}
        found += [(name, sentence) for name, sentence in error.violations or () if name not in reported]
    if found:
        raise _refusal(found)
    return order


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _value(value: Any, *, is_text: bool) -> Any:
    """Return a setting in the model's type: a spreadsheet has TRUE, 81 and 81.0."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if is_text:
        return text
    return text.lower() == "true" if text.lower() in ("true", "false") else whole_number(text)


def unknown_field(name: str) -> str:
    """Say that there is no such field, and suggest one."""
    near = difflib.get_close_matches(name.lower().replace(" ", "_"), FIELDS, n=1)
    return "there is no such field" + (f"; did you mean {near[0]}?" if near else f"; there are {', '.join(FIELDS)}")


def _refusal(found: Iterable[tuple[str, str]]) -> InvalidInput:
    found = list(dict.fromkeys(found))
    return InvalidInput("; ".join(f"{field}: {sentence}" for field, sentence in found), violations=found)
