"""The provenance files of an archive: found by listing, and read a few at a time."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Iterable
from datetime import datetime

from runcomfy.archive.provenance import Provenance
from runcomfy.storage.keys import RESERVED
from runcomfy.storage.store import Store

__all__ = ["provenance_files", "read_documents"]

_READING_AT_ONCE = 8
_MAX_BYTES = 16 * 1024 * 1024
_PROVENANCE = re.compile(r"\.[a-z0-9]{1,12}\.json$")  # of any kind of file: `runcomfy.storage.keys` has the same
_OTHERS = tuple(f"{folder}/" for folder in sorted(RESERVED))
"""What else this project keeps below the prefix, where no archived file is looked for."""
_MOST_FOLDERS = 100


def provenance_files(store: Store) -> dict[str, datetime]:
    """Return the key of each provenance file below the prefix, with its time by the store's clock. Blocks.

    A call for each thousand objects, the archived files included; staged images and the journal are left out.

    Raises:
        StorageError: the store could not be listed.
    """
    within, objects = store.list_folder(store.prefix)
    folders = [folder for folder in within if folder.removeprefix(store.prefix) not in _OTHERS]
    if len(folders) > _MOST_FOLDERS:  # a folder for each request, perhaps: all at once is fewer calls
        folders = [store.prefix]
    return {
        found.key: found.modified_at
        for found in itertools.chain(objects, *(store.list(folder) for folder in folders))
        if _PROVENANCE.search(found.key) and not found.key.removeprefix(store.prefix).startswith(_OTHERS)
    }


async def read_documents(
    store: Store, keys: Iterable[str], *, unreadable: Callable[[str], None]
) -> dict[str, Provenance]:
    """Return provenance documents by their keys; one that is gone is left out.

    Args:
        store: Where they are.
        keys: Their full keys.
        unreadable: Called with the key of what is no such document, which is then left out.

    Raises:
        StorageError: the store failed.
    """
    gate, found = asyncio.Semaphore(_READING_AT_ONCE), dict[str, Provenance]()

    async def read(key: str) -> None:
        async with gate:
            version = await asyncio.to_thread(store.read_version, key, limit_bytes=_MAX_BYTES)
        if version is None:
            return
        try:
            found[key] = Provenance.from_json(version.body)
        except ValueError:
            unreadable(key)

    await asyncio.gather(*map(read, keys))
    return found
