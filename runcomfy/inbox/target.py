"""What an arrival becomes: the model, and which of its inputs the arrival fills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runcomfy.errors import InvalidInput
from runcomfy.models import MODELS, ImageToVideo, ImageToVideoSettings, ModelInputs, model_id_of
from runcomfy.models.columns import OF_ANY_MODEL, column_of, input_of
from runcomfy.models.media_fields import MediaKind
from runcomfy.texts import prompt_of

__all__ = ["IMAGE_TO_VIDEO_TARGET", "Target", "settings_of", "target_of"]


@dataclass(frozen=True)
class Target:
    """A model, and what of it an arrival is."""

    kind: type[ModelInputs]
    field: str
    """The input that is filled: the model's own name of it."""

    @property
    def medium(self) -> MediaKind:
        """What an arrival has to be."""
        return self.kind.media[self.field].kind

    @property
    def purpose(self) -> str:
        """What the ledger distinguishes it by; empty for image-to-video."""
        return f"{self.kind.model_id} {self.field}" if self.kind.properties else ""

    @property
    def column(self) -> str:
        """What the filled input is called in an order."""
        return column_of(self.field) if self.kind.properties else "image"

    @property
    def prompt(self) -> str | None:
        """The input that a text beside an arrival is for; `None` where the model takes no text."""
        if not self.kind.properties:
            return "prompt"
        texts = {name: name for name in self.kind.texts}
        return prompt_of(texts) or next(iter(texts), None) if len(texts) == 1 else prompt_of(texts)

    @property
    def needed(self) -> tuple[str, ...]:
        """What has to be given beside the arrival: the model's own names."""
        names = (field.alias or name for name, field in self.kind.model_fields.items() if field.is_required())
        return tuple(name for name in names if name != self.field)

    @property
    def waits_for(self) -> str:
        """What an arrival waits for that cannot be processed yet, in words."""
        if not self.kind.properties or self.needed == (self.prompt,):
            return "There is no prompt for it yet."
        return f"Something that it needs is not given yet: {', '.join(self.needed)}."

    def defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return defaults of a run by what they are called in an order.

        Args:
            given: `prompt` is the text that the model takes, whatever it is called there; empty ones are left out.

        Raises:
            InvalidInput: The model has no such input, or it is the one that arrivals fill.
        """
        found = {name: value for name, value in given.items() if value is not None and value != ""}
        if not self.kind.properties:
            known = {"prompt", "variation", *self.kind.setting_names()}
            if unknown := [name for name in found if name not in known]:
                raise InvalidInput(
                    f"{', '.join(unknown)}: {self.kind.model_id} has no such setting; there are "
                    f"{', '.join(sorted(known))}. Inputs of another model need that model to be named."
                )
            return found
        # An option's name has hyphens.
        named = {name: name if input_of(self.kind, name) else name.replace("-", "_") for name in found}
        found = {named[name]: value for name, value in found.items()}
        if "prompt" in found and input_of(self.kind, "prompt") is None:
            if self.prompt is None:
                raise InvalidInput(f"prompt: {self.kind.model_id} takes no text. Leave it out.")
            found[column_of(self.prompt)] = found.pop("prompt")
        for name in found:
            own = input_of(self.kind, name)
            if own == self.field:
                raise InvalidInput(f"{name}: this is what arrives. Leave it out.")
            if own is None and name not in OF_ANY_MODEL:
                names = ", ".join(map(column_of, self.kind.properties))
                raise InvalidInput(f"{name}: {self.kind.model_id} has no such input; there are {names}.")
        return found


IMAGE_TO_VIDEO_TARGET = Target(ImageToVideo, ImageToVideo.image_field)
"""What an image becomes where nothing else is said."""


def target_of(kind: type[ModelInputs], field: str = "") -> Target:
    """Return what arrivals become.

    Args:
        kind: The model's class.
        field: The input that an arrival fills; or `image`, `video` or `audio`, for the only one of that kind. Empty:
            the only medium that the model takes, else the only one that it needs.

    Raises:
        InvalidInput: There is none, or there are several.
    """
    media, named = kind.media, field.strip()
    if kind.model_id in MODELS and media and named in ("", "image"):
        return Target(kind, kind.image_field)
    required = {known.alias or name for name, known in kind.model_fields.items() if known.is_required()}
    if named and named not in media and (name := named.replace("-", "_")) in media:
        named = name
    if named in media:
        candidates = [[named]]
    elif named:
        candidates = [[name for name, medium in media.items() if medium.kind == named]]
    else:
        candidates = [list(media), [name for name in media if name in required]]
    for found in candidates:
        if len(found) == 1:
            return Target(kind, found[0])
    if not media:
        raise InvalidInput(f"{kind.model_id} takes no file, so nothing that arrives can be made with it.")
    said = f"{named!r} is none or several of them" if named else "it takes several"
    raise InvalidInput(
        f"field: name the input of {kind.model_id} that an arrival fills ({said}): "
        f"{', '.join(f'{name} ({medium.kind})' for name, medium in media.items())}."
    )


def settings_of(settings: ImageToVideoSettings, model: str) -> dict[str, Any]:
    """Return the settings of image-to-video as defaults of a run; of another model, there are none.

    Raises:
        InvalidInput: Some are given, and another model is.
    """
    if not model.strip() or model_id_of(model, "model") == ImageToVideo.model_id:
        return settings.model_dump(exclude_none=True)
    if given := settings.model_dump(exclude_unset=True, exclude_none=True):
        raise InvalidInput(
            f"{', '.join(sorted(given))}: these are settings of image-to-video. Give those of {model} as its inputs."
        )
    return {}
