"""The catalogue entry of a model, pinned: what runs read, so that no run meets a schema that changed under it.

A pin is made on the first use of a model, and kept beside the journal with the SHA-256 of its schema and the date. It
changes when a person refreshes it; its earlier schemas stay in it, because their defaults are part of what generations
that exist were asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runcomfy.errors import ConfigurationError, InvalidInput
from runcomfy.models.inputs import ModelInputs
from runcomfy.models.media_fields import holds_text, media_fields
from runcomfy.models.registry import MODELS
from runcomfy.models.schema import class_of_schema, effective_defaults, standard
from runcomfy.texts import unwritable

__all__ = ["EarlierSchema", "Pin", "class_of", "note_of", "output_of", "pinned"]

Output = Literal["video", "image", "audio", ""]
_WORDS_OF: Mapping[Output, frozenset[str]] = {
    "video": frozenset({"video", "videos", "lipsync", "animate", "animation"}),
    "image": frozenset({"image", "images", "photo", "photos", "edit", "upscale"}),
    "audio": frozenset({"audio", "music", "speech", "song", "sound", "voice", "tts"}),
}


class EarlierSchema(BaseModel):
    """A schema that a pin had before it was refreshed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sha256: str
    input_schema: dict[str, Any]
    pinned_at: datetime


class Pin(BaseModel):
    """A model's catalogue entry as it was on a day."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # versions differ

    schema_version: Literal[1] = 1
    model_id: str
    input_schema: dict[str, Any] = Field(description="As the catalogue publishes it, word for word.")
    sha256: str = Field(description="SHA-256 of the schema as JSON with its names in order.")
    pinned_at: datetime
    source: str = Field(description="The service's base URL, or the name of a file.")
    display_name: str = ""
    description: str = ""
    output: Output = Field(default="", description="What it makes; empty: not known.")
    base_price_usd: float | None = Field(default=None, description="US dollars for each `price_unit`: a base only.")
    price_unit: str | None = Field(default=None, description="`second` or `output`.")
    pricing_note: str | None = None
    media: dict[str, str] = Field(
        default={}, description="What each field holds that may be a file: `image`, `video`, `audio` or `none`."
    )
    earlier: tuple[EarlierSchema, ...] = ()

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any], source: str, *, media: Mapping[str, str] | None = None) -> Self:
        """Return the pin of a catalogue entry.

        Args:
            entry: As `GET /v1/models/{model_id}` answers, or as a file has it.
            source: Where it is from.
            media: What a person says that fields hold.

        Raises:
            InvalidInput: It is no catalogue entry, or no class can be made of its schema.
        """
        model_id, schema = entry.get("model_id"), entry.get("input_schema")
        if not isinstance(model_id, str) or not model_id.strip() or not isinstance(schema, dict):
            raise InvalidInput(f"{source} is no entry of the catalogue: it needs a `model_id` and an `input_schema`.")
        if unwritable(json.dumps(entry, ensure_ascii=False, default=str)):
            raise InvalidInput(f"{source} has a text that is not valid Unicode.")
        texts = {name: entry[name] for name in ("display_name", "description") if isinstance(entry.get(name), str)}
        notes = {name: entry[name] for name in ("price_unit", "pricing_note") if isinstance(entry.get(name), str)}
        price = entry.get("base_price_usd")
        pin = cls(
            model_id=model_id.strip(),
            input_schema=schema,
            sha256=_sha256(schema),
            pinned_at=datetime.now(UTC),
            source=source,
            output=output_of(entry),
            base_price_usd=price if isinstance(price, (int, float)) and not isinstance(price, bool) else None,
            media=dict(media or {}),
            **texts,
            **notes,
        )
        class_of(pin)
        return pin._with_all_media()

    @classmethod
    def from_json(cls, document: bytes, where: str) -> Self:
        """Read a stored pin.

        Raises:
            ConfigurationError: it cannot be read by this version.
        """
        try:
            return cls.model_validate_json(document)
        except ValidationError:
            raise ConfigurationError(
                f"The pinned model at {where} cannot be read by this version. Use the version that wrote it."
            ) from None

    def to_json(self) -> bytes:
        """Return the document as it is stored."""
        return self.model_dump_json(indent=1).encode()

    def first_defaults(self) -> dict[str, Any]:
        """Return what was sent first where a property was left out; empty while the schema has not changed."""
        defaults: dict[str, Any] = {}
        for schema in (self.input_schema, *(each.input_schema for each in self.earlier)) if self.earlier else ():
            known = schema.get("properties", {})
            defaults |= effective_defaults(schema, {name: kind for name, kind in self.media.items() if name in known})
        return defaults

    def refreshed(self, other: Self, media: Mapping[str, str] | None = None) -> Self:
        """Return the pin with the schema and the facts of another one; what its fields hold stays.

        Args:
            other: What the catalogue says now.
            media: What a person says that fields hold.

        Raises:
            InvalidInput: `media` names no field of the new schema, or one that holds no URL.
        """
        media_fields(standard(other.input_schema)["properties"], media or {})
        before = EarlierSchema(sha256=self.sha256, input_schema=self.input_schema, pinned_at=self.pinned_at)
        known = () if other.sha256 == self.sha256 else (before,)
        held = {**other.media, **self.media, **(media or {})}
        return other.model_copy(update={"media": held, "earlier": (*known, *self.earlier)})._with_all_media()

    def _with_all_media(self) -> Self:
        """Return the pin with what each field holds: a later version may see more, and keys would not be the same."""
        properties = standard(self.input_schema)["properties"]
        said = {
            name: kind
            for name, kind in self.media.items()
            if name in properties and (kind == "none" or holds_text(properties[name]))
        }
        found = media_fields(properties, said)
        names = [name for name, rules in properties.items() if name in said or holds_text(rules)]
        return self.model_copy(
            update={"media": {name: str(found[name].kind) if name in found else "none" for name in names}}
        )


def class_of(pin: Pin) -> type[ModelInputs]:
    """Return the class of the model's inputs; the typed one for a model that has one.

    Raises:
        InvalidInput: No class can be made of the schema.
    """
    if (typed := MODELS.get(pin.model_id)) is not None:
        return typed
    made = class_of_schema(
        pin.model_id,
        pin.input_schema,
        media=pin.media,
        makes=pin.output,
        first_defaults=pin.first_defaults(),
        refreshed_at=pin.pinned_at if pin.earlier else None,
    )
    made.base_price_usd, made.price_unit = pin.base_price_usd, pin.price_unit
    return made


async def pinned(
    model_id: str,
    *,
    read: Callable[[str], Awaitable[bytes | None]],
    create: Callable[[str, bytes], Awaitable[None]],
    fetch: Callable[[str], Awaitable[Mapping[str, Any]]],
    source: str,
) -> Pin:
    """Return the pin of a model; on its first use, it is fetched from the catalogue and kept.

    Args:
        model_id: The model.
        read: Returns the pin's document, by the note's name, or `None`.
        create: Keeps the document, unless there is one.
        fetch: Returns the catalogue's entry.
        source: The service's base URL.

    Raises:
        ConfigurationError: The pin cannot be read.
        InvalidInput: There is no such model, or no class can be made of its schema.
        ServiceError: The catalogue could not be read.
        StorageError: The pin could not be read or written.
    """
    note = note_of(model_id)
    if (document := await read(note)) is not None:
        return Pin.from_json(document, note)
    pin = Pin.from_entry(await fetch(model_id), source)
    await create(note, pin.to_json())
    document = await read(note)  # another process may have been first
    return pin if document is None else Pin.from_json(document, note)


def note_of(model_id: str) -> str:
    """Return the name of the note that holds a model's pin, beside the journal's entries."""
    return f"models/{model_id}"


def output_of(entry: Mapping[str, Any]) -> Output:
    """Return what a model makes, by its catalogue entry: `video`, `image`, `audio`, or empty if it does not say.

    The catalogue has no field for it: its categories do (`text-to-video`), else the end of the model's id.
    """
    categories = entry.get("categories")
    texts = [entry.get("output"), *(categories if isinstance(categories, list) else ())]
    texts += str(entry.get("model_id")).split("/")[::-1]
    for text in texts:
        made = str(text or "").lower().rpartition("-to-")[2].replace("_", "-").replace(" ", "-").split("-")
        for kind, names in _WORDS_OF.items():
            if names & set(made):
                return kind
    return ""


def _sha256(schema: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(schema, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
