"""Which inputs of a model are media: by the schema's `format`, else by the field's name, else as the user says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from runcomfy.errors import InvalidInput

__all__ = ["MediaField", "MediaKind", "SizeRule", "file_in", "holds_text", "media_fields", "types_of"]


class MediaKind(StrEnum):
    """What a medium is."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"


class SizeRule(BaseModel):
    """A rule of the catalogue about the file behind a URL (its keyword `validations`)."""

    model_config = ConfigDict(frozen=True)

    measure: str
    """`file_size_mb`, `width_pixels`, `height_pixels`, `width/height` and the like."""
    relation: str
    """`<`, `<=`, `>`, `>=` or `==`."""
    bound: float
    words: str = ""
    """The catalogue's own sentence."""


class MediaField(BaseModel):
    """A field whose value is the URL of a medium, or a list of them."""

    model_config = ConfigDict(frozen=True)

    kind: MediaKind
    many: bool = False
    rules: tuple[SizeRule, ...] = ()


_FORMAT: Final = re.compile(r"(image|video|audio)[-_ ]?(?:uri|url|file)?s?", re.IGNORECASE)
_NOUNS: Final = {
    MediaKind.IMAGE: frozenset(
        ["image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "frame", "frames", "mask", "masks"]
    ),
    MediaKind.VIDEO: frozenset(["video", "videos", "clip", "clips", "footage", "movie"]),
    MediaKind.AUDIO: frozenset(["audio", "audios", "song", "songs", "sound", "sounds", "speech", "music"]),
}
_ADDRESS: Final = frozenset(["url", "urls", "uri", "uris", "path", "paths", "file", "files"])
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_BESIDE: Final = frozenset({
    "tail", "end", "start", "first", "last", "input", "source", "reference", "ref", "sample", "head", "target",
    "driving",
})  # fmt: skip
_NO_WEB_ADDRESS: Final = re.compile(r"(?:s3|file|data|gs|blob):", re.IGNORECASE)
_SECRET_ADDRESS: Final = re.compile(r"https?://(?:.*\?|[^/?#]*@)", re.IGNORECASE | re.DOTALL)
_A_PATH: Final = re.compile(
    r"(?!https?://)\S*[^\s/]\.(?:png|jpe?g|webp|gif|bmp|tiff?|avif|heic|mp4|mov|webm|mkv|mp3|wav|flac|ogg|m4a|aac)",
    re.IGNORECASE,
)
_RULE: Final = re.compile(r"\s*([\w/.* ]+?)\s*(<=|>=|==|<|>)\s*")


def media_fields(properties: Mapping[str, Mapping[str, Any]], told: Mapping[str, str]) -> dict[str, MediaField]:
    """Return the fields that are media, by name.

    Args:
        properties: The schema's properties, put right by `runcomfy.models.schema.standard`.
        told: What the user says of a field: `image`, `video`, `audio`, or `none`.

    Raises:
        InvalidInput: `told` names a field that is not there, or that cannot hold a URL, or another kind of medium.
    """
    found = {name: field for name, own in properties.items() if (field := _field(name, own))}
    for name, kind in told.items():
        if name not in properties:
            raise InvalidInput(f"media: there is no field {name}; there are {', '.join(properties)}")
        if kind == "none":
            found.pop(name, None)
        elif kind not in list(MediaKind):
            raise InvalidInput(f"media: {name} is said to be {kind!r}; say image, video, audio or none")
        elif not holds_text(properties[name]):
            raise InvalidInput(f"media: {name} holds no URL; it is not a text, nor a list of texts")
        else:
            found[name] = _made(MediaKind(kind), properties[name])
    return found


def _field(name: str, schema: Mapping[str, Any]) -> MediaField | None:
    if not holds_text(schema):
        return None
    items = schema.get("items")
    for each in (schema, items if isinstance(items, dict) else {}):
        if isinstance(format_ := each.get("format"), str) and (named := _FORMAT.fullmatch(format_.strip())):
            return _made(MediaKind(named[1].lower()), schema)
    words = [word.lower() for word in _WORD.findall(name)]
    while words and (words[-1] in _ADDRESS or words[-1].isdigit() or (words[-1] in _BESIDE and len(words) > 1)):
        words.pop()
    kind = next((kind for kind, nouns in _NOUNS.items() if words and words[-1] in nouns), None)
    return _made(kind, schema) if kind else None


def holds_text(schema: Mapping[str, Any]) -> bool:
    """Whether it is a text without choices, or a list of them."""
    if "array" in types_of(schema):
        items = schema.get("items", True)
        return items is True or (isinstance(items, dict) and (not items or _is_plain_text(items)))
    return _is_plain_text(schema)


def _is_plain_text(schema: Mapping[str, Any]) -> bool:
    return types_of(schema) - {"null"} == {"string"} and not {"enum", "const"} & schema.keys()


def types_of(schema: Mapping[str, Any]) -> set[str]:
    """Return the types that a schema names, itself or as one of several forms."""
    named = schema.get("type")
    found = {named} if isinstance(named, str) else set(named or ())
    for rule in ("anyOf", "oneOf"):
        for form in schema.get(rule) or ():
            if isinstance(form, dict):
                found |= types_of(form)
    return found


def file_in(value: Any) -> str:
    """Return why a value that is no medium names a file, so that it cannot be sent as it is; empty if it names none.

    A public URL without a query may be: the service can read it. A path and `s3://` it cannot; and a query may be a
    signature, which ends, must not be stored, and would make another generation of the same file. So must no password
    before the host be stored.
    """
    match value:
        case str():
            text = value.strip()
            if _NO_WEB_ADDRESS.match(text) or _SECRET_ADDRESS.match(text) or _A_PATH.fullmatch(text):
                return (
                    "it names a file, and the model's schema does not say that there is one. Say what it is "
                    "(prefect-runcomfy models refresh MODEL --media.FIELD image, or video, audio), or where that is "
                    "not possible, give a public https:// URL without a query or a password"
                )
        case list():
            return next(filter(None, map(file_in, value)), "")
        case dict():
            return next(filter(None, map(file_in, value.values())), "")
    return ""


def _made(kind: MediaKind, schema: Mapping[str, Any]) -> MediaField:
    return MediaField(kind=kind, many="array" in types_of(schema), rules=tuple(_rules(schema.get("validations"))))


def _rules(validations: Any) -> list[SizeRule]:
    rules = []
    for each in validations if isinstance(validations, list) else ():
        if not isinstance(each, dict):
            continue
        rule, bound = _RULE.fullmatch(str(each.get("validation_rule", ""))), each.get("validation_value")
        if rule and isinstance(bound, (int, float)) and not isinstance(bound, bool):
            words = str(each.get("validation_error") or "")
            rules.append(SizeRule(measure=rule[1], relation=rule[2], bound=bound, words=words))
    return rules
