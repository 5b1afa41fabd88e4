"""The request spec of an image: its sidecar's fields, then its object's metadata, then the defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Any, NoReturn

from runcomfy.errors import InvalidInput
from runcomfy.inbox.images import Found, InboxImage
from runcomfy.models.orders import FIELDS, TEXTS, Order, read_order
from runcomfy.storage.store import Store
from runcomfy.texts import encoding_of, json_integer, json_number

__all__ = ["read_request_spec", "sidecar_fields"]

_MAX_SIDECAR_BYTES = 64 * 1024
_ENCODED = re.compile(r"=\?[^?\s]+\?[BbQq]\?[^?\s]*\?=")
_NOT_IN_METADATA = ("image", "model")  # cameras and asset systems write a `model` of their own


def read_request_spec(image: InboxImage, store: Store, defaults: Mapping[str, Any]) -> Order | None:
    """Return the request spec of an image, or `None` while there is no prompt for it anywhere. Blocks.

    Field by field, `<name>.json` comes first, then `<name>.txt` (the prompt only), then the metadata of the image's
    object (`x-amz-meta-prompt`, `x-amz-meta-num-frames` …), then the defaults.

    Args:
        image: The image, with the sidecars beside it.
        store: Reads the image's bucket.
        defaults: Fields by name.

    Raises:
        InvalidInput: the request is invalid, with every violation, or a sidecar cannot be read.
        StorageError: the bucket could not be read.
    """
    found = store.head(image.object.key, image.bucket)
    if found is None:
        raise InvalidInput(f"{image.uri} does not exist any more.")
    values = _given(_from_metadata(found.metadata))
    for sidecar in reversed(image.sidecars):
        if sidecar.size_bytes > _MAX_SIDECAR_BYTES:
            _refuse(sidecar, f"it has {sidecar.size_bytes:,} bytes; {_MAX_SIDECAR_BYTES:,} are allowed")
        values |= sidecar_fields(sidecar, store.read(sidecar.key, image.bucket, limit_bytes=_MAX_SIDECAR_BYTES))
    if not _given({"prompt": values.get("prompt", defaults.get("prompt"))}):
        return None
    return read_order(values | {"image": image.uri}, defaults)


def sidecar_fields(sidecar: Found, data: bytes) -> dict[str, Any]:
    """Return the fields that a sidecar gives: `.json` any, another the prompt only.

    Args:
        sidecar: Its key is what a person reads.
        data: The whole file, in UTF-8, UTF-16 or UTF-32.

    Raises:
        InvalidInput: it cannot be read.
    """
    try:
        text = data.decode(encoding_of(data))
    except UnicodeDecodeError:
        _refuse(sidecar, "it is not UTF-8; save it as UTF-8")
    return _given(_from_json(sidecar, text) if sidecar.extension == "json" else {"prompt": text.strip()})


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in values.items()
        if value is not None and not (isinstance(value, str) and not value.strip())
    }


def _from_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the fields in an object's metadata; metadata of other programs is ignored."""
    named = {name.lower().replace("-", "_"): value for name, value in metadata.items()}
    return {name: _decoded(name, named[name]) for name in FIELDS if name in named and name not in _NOT_IN_METADATA}


def _decoded(name: str, value: str) -> str:
    """Undo what S3 does to texts that are not ASCII: RFC 2047 on AWS, bare UTF-8 in a header on others."""
    try:
        if _ENCODED.search(value):
            return str(make_header(decode_header(value)))
        return value if value.isascii() else value.encode("latin-1").decode()
    except UnicodeEncodeError:
        return value  # it was decoded already
    except (HeaderParseError, LookupError, UnicodeDecodeError):
        sentence = f"the metadata x-amz-meta-{name} is neither UTF-8 nor encoded as in RFC 2047"
        raise InvalidInput(f"{name}: {sentence}", violations=[(name, sentence)]) from None


def _from_json(sidecar: Found, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text.lstrip("\ufeff"), parse_float=json_number, parse_int=json_integer)
    except json.JSONDecodeError as error:
        _refuse(sidecar, f"it is not JSON ({error})")
    except RecursionError:
        _refuse(sidecar, "it is nested too deeply")
    except ValueError as error:
        _refuse(sidecar, str(error))
    if not isinstance(found, dict):
        _refuse(sidecar, 'it is not a JSON object such as {"prompt": "Snow begins to fall", "seed": 7}')
    if "image" in found:
        _refuse(sidecar, "it names an image, but always belongs to the one beside it; leave that out")
    for name in TEXTS:
        if not isinstance(found.get(name), str | None):
            _refuse(sidecar, f"its {name} is not a text")
    return found


def _refuse(sidecar: Found, sentence: str) -> NoReturn:
    name = sidecar.key.rpartition("/")[2]
    raise InvalidInput(f"The sidecar {name} cannot be used: {sentence}.", violations=[("sidecar", sentence)]) from None
