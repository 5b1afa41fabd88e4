"""Find the file that a person names: by its generation and output, or by its key or address."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable

from runcomfy.errors import ConfigurationError, InvalidInput
from runcomfy.generation.destination import Destination
from runcomfy.review.waiting import Item, read_item, set_aside
from runcomfy.storage.keys import QUARANTINE, aside_key, usual_key
from runcomfy.storage.store import Store

__all__ = ["choose"]

_KEY = re.compile(r"[0-9a-f]{8,64}")


async def choose(destination: Destination, named: str, output: int | None = None) -> Item:
    """Return the file that a person decides about; also one that is decided, and that was moved.

    Args:
        destination: The archive, and the journal.
        named: The generation's key, or at least eight digits of it; or the file's key or `s3://` address, in either of
            its two places.
        output: Which of the request's files, from 0; needed where several were set aside.

    Raises:
        InvalidInput: it names none, or several.
        StorageError: the journal or the bucket could not be read.
    """
    named = named.strip()
    if not _KEY.fullmatch(named):
        item = await _by_address(destination, named)
        if item is None or output not in (None, item.provenance.output_index):
            raise _none(destination, named)
        return item
    store, keys = await _known(destination, named)
    found = await asyncio.to_thread(_by_generation, store, named, keys, output)
    generations = {item.provenance.generation_key for item in found}
    if len(generations) > 1:
        raise InvalidInput(
            f"{len(generations)} generations whose keys begin with {named} have files that were set aside. Give more "
            "digits."
        )
    asked = [item for item in found if output in (None, item.provenance.output_index)]
    if len(asked) > 1:
        open_ones = [item for item in asked if item.state in ("waiting", "accepting")]
        asked = open_ones if len(open_ones) == 1 else asked
    if len(asked) > 1:
        files = ", ".join(f"{item.provenance.output_index} ({item.uri}, {item.state})" for item in asked)
        raise InvalidInput(
            f"Several files of generation {named[:12]} were set aside. Name one with --output, or by its address: "
            f"{files}"
        )
    if not asked:
        raise _none(destination, named if output is None else f"{named}, output {output}")
    return asked[0]


async def _known(destination: Destination, named: str) -> tuple[Store, list[str]]:
    """Return where the journal has a generation, and under which keys; nothing, if it does not know it."""
    try:
        entry = (await destination.journal.find(named)).entry
    except ConfigurationError:
        return destination.store, []
    videos = entry.archive.videos if entry.archive else ()
    return destination.at(entry.store).store, [video.key for video in videos]


def _by_generation(store: Store, named: str, keys: Iterable[str], output: int | None) -> list[Item]:
    found = {
        item.key: item for item in (_at(store, key) for key in keys)
        if item is not None and (item.provenance.generation_key or named).startswith(named)
    }  # fmt: skip
    if all(output not in (None, item.provenance.output_index) for item in found.values()):
        # the journal does not know it: the provenances do
        found = {
            item.key: item for item in set_aside(store) if (item.provenance.generation_key or "").startswith(named)
        }
    return list(found.values())


async def _by_address(destination: Destination, named: str) -> Item | None:
    """Return the file at a key or an address, which may be in another archive whose generations the journal has."""
    store, key = destination.store, named
    if named[:5].lower() == "s3://":
        bucket, _, key = named[5:].partition("/")
        if bucket != store.bucket or not key.startswith(store.prefix):
            return await _elsewhere(destination, bucket, key.removesuffix(".json"))
    key = key.removesuffix(".json")
    return await asyncio.to_thread(_at, store, key if key.startswith(store.prefix) else store.key(key))


async def _elsewhere(destination: Destination, bucket: str, key: str) -> Item | None:
    """Return a file of another archive, if this journal has its generation: the decision is recorded there.

    Raises:
        InvalidInput: it is in another bucket, or the journal does not know it.
    """
    prefix, folder, _ = f"/{key}".partition(f"/{QUARANTINE}")
    if folder:
        there = destination.at(f"s3://{bucket}{prefix}/")
        item = await asyncio.to_thread(_at, there.store, key)
        generation = item.provenance.generation_key if item is not None else None
        found = await destination.journal.read(generation) if generation is not None else None
        if found is not None and destination.at(found.entry.store).uri == there.uri:
            return item
    raise InvalidInput(
        f"s3://{bucket}/{key} is not below {destination.uri}, and no generation that its journal has. Name its own "
        "archive with --bucket, and its journal with --journal where that is elsewhere."
    )


def _at(store: Store, key: str) -> Item | None:
    """Return what was set aside, in whichever of its two places it is now."""
    if (item := read_item(store, aside_key(store.prefix, key))) is not None:
        return item
    item = read_item(store, usual_key(store.prefix, key))
    return item if item is not None and item.review is not None else None


def _none(destination: Destination, named: str) -> InvalidInput:
    return InvalidInput(
        f"Nothing that was set aside in {destination.uri} is named {named}. Give at least eight digits of the "
        "generation's key, or the file's address, as `review list` shows them."
    )
