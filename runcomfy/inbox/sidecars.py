"""What is beside an image: a `.json` with any of its fields, or a `.txt` that is its prompt."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NoReturn

from runcomfy.errors import InvalidInput
from runcomfy.inbox.images import Found
from runcomfy.inbox.target import IMAGE_TO_VIDEO_TARGET, Target
from runcomfy.media.kinds import SNIFF_BYTES, describe, sniff
from runcomfy.models.columns import FIELDS, TEXTS, input_of
from runcomfy.models.media_fields import MediaKind
from runcomfy.texts import encoding_of, json_integer, json_number, shown

__all__ = ["MAX_SIDECAR_BYTES", "check_sidecar_size", "given", "sidecar_fields"]

MAX_SIDECAR_BYTES = 64 * 1024
_FORM = '{"prompt": "Snow begins to fall", "seed": 7}'
_DOCUMENT = re.compile(r"<(?:\?xml\b|!doctype\b|(?:html|head|body|error|svg)\b[^<>]*>)", re.IGNORECASE)
"""How a document begins that a server or a program wrote: a tag alone may be part of a prompt."""


def check_sidecar_size(sidecar: Found) -> None:
    """Raise `InvalidInput` for a sidecar that has more bytes than one may have."""
    if sidecar.size_bytes > MAX_SIDECAR_BYTES:
        _refuse(sidecar, f"it has {sidecar.size_bytes:,} bytes; {MAX_SIDECAR_BYTES:,} are allowed. Shorten it")


def sidecar_fields(sidecar: Found, data: bytes, target: Target = IMAGE_TO_VIDEO_TARGET) -> dict[str, Any]:
    """Return the fields that a sidecar gives: `.json` any, another the prompt only.

    Args:
        sidecar: Its key is what a person reads.
        data: The whole file, in UTF-8, UTF-16 or UTF-32.
        target: What the arrival becomes.

    Raises:
        InvalidInput: it cannot be read.
    """
    try:
        text = data.decode(encoding_of(data))
    except UnicodeDecodeError:
        _refuse(sidecar, f"it is no text in UTF-8{_medium(data)}; save it as UTF-8 text")
    if sidecar.extension == "json":
        return given(_from_json(sidecar, text, target))
    _check_is_prompt(sidecar, text, target)
    if target.prompt is None:
        _refuse(sidecar, f"{target.kind.model_id} takes no text; give its inputs as JSON, in {sidecar.stem}.json")
    return given({target.prompt: text.strip()})


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that have a value: neither null nor blank."""
    return {
        name: value
        for name, value in values.items()
        if value is not None and not (isinstance(value, str) and not value.strip())
    }


def _check_is_prompt(sidecar: Found, text: str, target: Target) -> None:
    """Refuse what is in the place of a prompt's file: it would be paid for, and no model can do anything with it.

    A prompt may be marked up (`<lora:snow:0.8> a cat`), and may be JSON (`{"scene": "snow"}`): people write both.
    """
    if (what := _instead_of_text(text)) is not None:
        _refuse(sidecar, f"it is {what}, and is to be the prompt")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return  # such as `[a cat:0.8] in snow`
    if isinstance(found, list):
        _refuse(sidecar, "it is a list in JSON, and a .txt is the prompt as it is; write the text alone")
    if isinstance(found, dict) and any(name in FIELDS or input_of(target.kind, name) for name in found):
        name = sidecar.stem.rpartition("/")[2]
        _refuse(sidecar, f"it gives fields in JSON, and a .txt is the prompt as it is; name it {name}.json")


def _medium(data: bytes) -> str:
    kind = sniff(data[:SNIFF_BYTES])
    return f", but {kind.content_type}" if kind is not None else ""


def _instead_of_text(text: str) -> str | None:
    """Return what a text is that nobody wrote as a prompt or as JSON; `None` if it may be one."""
    start = text.lstrip("\ufeff").lstrip()
    if start.startswith("version https://git-lfs"):
        return "the pointer that Git LFS keeps in place of the file (run `git lfs pull`)"
    if start.startswith("{\\rtf"):
        return "an RTF document (save it as plain text)"
    if _DOCUMENT.match(start):
        return f"{describe(start[:SNIFF_BYTES].encode(errors='replace'))} (an error page, perhaps)"
    return None


def _from_json(sidecar: Found, text: str, target: Target) -> dict[str, Any]:
    try:
        found = json.loads(
            text.lstrip("\ufeff"), parse_float=json_number, parse_int=json_integer, parse_constant=_no_constant,
            object_pairs_hook=_each_once,
        )  # fmt: skip
    except json.JSONDecodeError as error:
        if not text.strip():
            _refuse(sidecar, f"it is empty; write fields such as {_FORM}, or delete it")
        if (what := _instead_of_text(text)) is not None:
            _refuse(sidecar, f"it is {what}, and is to be JSON")
        message = error.msg.removesuffix(" at")
        _refuse(sidecar, f"it is not JSON: {message} at line {error.lineno}, column {error.colno}")
    except RecursionError:
        _refuse(sidecar, f"it is nested too deeply; write fields such as {_FORM}")
    except ValueError as error:
        _refuse(sidecar, str(error))
    if not isinstance(found, dict):
        _refuse(sidecar, f"it is not a JSON object such as {_FORM}")
    of_catalogue = bool(target.kind.properties)
    fills = [name for name in found if of_catalogue and input_of(target.kind, name) == target.field]
    if ("image" in found and not of_catalogue) or fills:
        what = {MediaKind.IMAGE: "an image", MediaKind.VIDEO: "a video", MediaKind.AUDIO: "a sound"}[target.medium]
        _refuse(sidecar, f"it names {what}, but always belongs to the one beside it; leave that out")
    if of_catalogue:
        if "model" in found:
            _refuse(sidecar, f"it names a model, and this inbox is for {target.kind.model_id}; leave that out")
        return found
    for name in TEXTS:
        if not isinstance(found.get(name), str | None):
            _refuse(sidecar, f"its {name} is not a text; write it in double quotes")
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"{shown(name, 60)} is given twice; keep one of them")
    return values


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value; leave the field out")


def _refuse(sidecar: Found, sentence: str) -> NoReturn:
    name = sidecar.key.rpartition("/")[2]
    raise InvalidInput(f"The sidecar {name} cannot be used: {sentence}.", violations=[("sidecar", sentence)]) from None
