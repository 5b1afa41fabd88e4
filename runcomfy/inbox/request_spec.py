"""The request spec of an image: its sidecar's fields, then its object's metadata, then the defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Any

from runcomfy.archive.place import METADATA as OF_ARCHIVED_FILES
from runcomfy.archive.place import stored_sha256
from runcomfy.errors import InvalidInput
from runcomfy.generation.staging import METADATA as OF_STAGED_IMAGES
from runcomfy.inbox.images import InboxImage
from runcomfy.inbox.sidecars import MAX_SIDECAR_BYTES, check_sidecar_size, given, sidecar_fields
from runcomfy.inbox.target import IMAGE_TO_VIDEO_TARGET, Target
from runcomfy.models.cells import Nested
from runcomfy.models.columns import FIELDS, column_of, input_of, suggested
from runcomfy.models.orders import Order, read_order
from runcomfy.storage.store import Store

__all__ = ["read_request_spec"]

_PREFIX = "runcomfy_"
_ENCODED = re.compile(r"=\?[^?\s]+\?[BbQq]\?[^?\s]*\?=")
_NOT_IN_METADATA = ("image", "model")  # cameras and asset systems write a `model` of their own


def read_request_spec(
    image: InboxImage,
    store: Store,
    defaults: Mapping[str, Any],
    target: Target = IMAGE_TO_VIDEO_TARGET,
    *,
    holds: Callable[[str, str], bool] = lambda bucket, key: False,
) -> Order | None:
    """Return the request spec of an image, or `None` while there is no prompt for it anywhere. Blocks.

    Field by field, `<name>.json` comes first, then `<name>.txt` (the prompt only), then the metadata of the image's
    object (`x-amz-meta-prompt`, `x-amz-meta-num-frames` …; of a model of the catalogue `x-amz-meta-runcomfy-…`), then
    the defaults.

    Args:
        image: The image, or what else arrives, with the sidecars beside it.
        store: Reads the image's bucket.
        defaults: Fields by name.
        target: What it becomes.
        holds: Whether an object of a bucket is an arrival itself, which no other one may name.

    Raises:
        InvalidInput: the request is invalid, with every violation, or a sidecar cannot be read.
        StorageError: the bucket could not be read.
    """
    found = store.head(image.object.key, image.bucket)
    if found is None:
        raise InvalidInput(
            f"{image.uri} does not exist any more. Upload it again if it is wanted. Nothing was paid for."
        )
    if stored_sha256(found) and _is_archived_here(image, store):
        raise InvalidInput(
            f"{image.uri} is an archived file of this store, under another archive key than today's: its provenance is "
            "beside it. To use it as an input, copy it without that."
        )
    values = given(_from_metadata(found.metadata, target))
    for sidecar in reversed(image.sidecars):
        check_sidecar_size(sidecar)
        data = store.read(sidecar.key, image.bucket, limit_bytes=MAX_SIDECAR_BYTES)
        values |= sidecar_fields(sidecar, data, target)
    if _waits(target, values, defaults, image):
        return None
    if not target.kind.properties:
        return read_order(values | {"image": image.uri}, defaults)

    def locate(name: str) -> str:
        return image.uri if name == image.uri else _allowed(name, image.bucket, holds)

    named = {name: Nested(json.dumps(each)) if isinstance(each, list | dict) else each for name, each in values.items()}
    model_id = target.kind.model_id
    return read_order(
        named | {target.column: image.uri, "model": model_id}, defaults, {model_id: target.kind}, locate=locate
    )


def _is_archived_here(image: InboxImage, store: Store) -> bool:
    """Whether an object that is an archived file, or a copy of one, is in this store, with its provenance beside it."""
    key = image.object.key
    is_here = image.bucket == store.bucket and key.startswith(store.prefix)
    return is_here and store.head(f"{key}.json", image.bucket) is not None


def _waits(target: Target, values: Mapping[str, Any], defaults: Mapping[str, Any], image: InboxImage) -> bool:
    """Whether something that is needed is given nowhere, and may still come: the prompt, or a sidecar with the rest."""
    if not target.kind.properties:
        return not given({"prompt": values.get("prompt", defaults.get("prompt"))})
    named = {input_of(target.kind, name) for name in (*given(values), *given(defaults))}
    missing = [name for name in target.needed if name not in named]
    has_json = any(sidecar.extension == "json" for sidecar in image.sidecars)
    return bool(missing) and (not has_json or missing == [target.prompt])


def _allowed(name: str, bucket: str, holds: Callable[[str, str], bool]) -> str:
    """Return a medium that a sidecar or metadata names; whoever may write those may not read with this run's rights.

    Raises:
        ValueError: It is a file of this machine, of another bucket, or another arrival.
    """
    if name.lower().startswith("https://"):
        return name
    scheme, _, rest = name.partition("://")
    of, _, key = rest.partition("/")
    if scheme.lower() != "s3" or of != bucket or not key:
        raise ValueError(f"a sidecar or metadata may name an https:// URL or s3://{bucket}/key, nothing else")
    if holds(of, key):
        raise ValueError("this is an arrival of its own. Put it elsewhere in the bucket")
    return name


def _from_metadata(metadata: Mapping[str, str], target: Target) -> dict[str, str]:
    """Return the fields in an object's metadata; metadata of other programs is ignored."""
    named = {name.lower().replace("-", "_"): value for name, value in metadata.items()}
    if target.kind.properties:
        # S3 keeps names in lower case; a hyphen is the only mark that every server and proxy lets through.
        known = {name.lower().replace("-", "_"): name for name in (*target.kind.properties, "variation")}
        ours = {
            name.removeprefix(_PREFIX): value
            for name, value in named.items()
            if name.startswith(_PREFIX) and name not in _of_ours(named)
        }
        if unknown := [name for name in ours if name not in known]:
            sentence = f"{target.kind.model_id} has no such input{suggested(unknown[0], list(known))}"
            name = f"x-amz-meta-runcomfy-{unknown[0].replace('_', '-')}"
            raise InvalidInput(f"{name}: {sentence}", violations=[(name, sentence)])
        if target.field in (known[name] for name in ours):
            sentence = "the metadata names a file, but always belongs to the one that it is of"
            raise InvalidInput(f"{target.field}: {sentence}", violations=[(target.field, sentence)])
        return {
            name if name == "variation" else column_of(known[name]): _decoded(name, value)
            for name, value in ours.items()
        }
    return {name: _decoded(name, named[name]) for name in FIELDS if name in named and name not in _NOT_IN_METADATA}


def _of_ours(named: Mapping[str, str]) -> frozenset[str]:
    """Return the names that say what an object is a copy of, an archived file or a staged image: no settings."""
    kinds = [frozenset(name.replace("-", "_") for name in each) for each in (OF_ARCHIVED_FILES, OF_STAGED_IMAGES)]
    archived, staged = kinds
    is_archived = {"runcomfy_request_id", "runcomfy_sha256"} <= named.keys()
    return (archived if is_archived else frozenset()) | (staged if staged <= named.keys() else frozenset())


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
