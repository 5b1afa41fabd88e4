"""Put together, in one pass over a listing, what belongs to one archived file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from runcomfy.storage.keys import RESERVED
from runcomfy.storage.objects import Listed
from runcomfy.storage.store import Store

__all__ = ["Group", "groups"]

_LOOKED_INTO = frozenset({"quarantine"})
_PROVENANCE = ".json"


@dataclass
class Group:
    """A file and what is beside it, as far as it exists."""

    key: str
    size_bytes: int | None
    """`None` if there is a provenance, or what may be one, without a file."""
    has_provenance: bool = False
    has_poster: bool = False


def groups(store: Store, listed: Iterable[Listed]) -> Iterator[Group]:
    """Yield each file with what is beside it; needs no more memory than one file and its neighbours do.

    A listing is in the order of the keys, so whatever is beside a file follows it before its name is over.

    Args:
        store: The store that is listed.
        listed: The whole listing below its prefix.
    """
    around: list[Group] = []
    for each in listed:
        if _is_reserved(each.key.removeprefix(store.prefix)):
            continue
        while around and not each.key.startswith(f"{around[-1].key}"):
            yield around.pop()
        base = next((group for group in reversed(around) if each.key.startswith(f"{group.key}.")), None)
        if base is None:
            if each.key.endswith(_PROVENANCE):
                yield Group(each.key.removesuffix(_PROVENANCE), None, has_provenance=True)
            else:
                around.append(Group(each.key, each.size_bytes))
        else:
            base.has_provenance |= each.key == f"{base.key}{_PROVENANCE}"
            base.has_poster |= each.key == f"{base.key}.jpg"
    yield from reversed(around)


def _is_reserved(name: str) -> bool:
    folder, slash, _ = name.partition("/")
    return bool(slash) and folder in RESERVED - _LOOKED_INTO
