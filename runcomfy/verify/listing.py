"""Put together, in one pass over a listing, what belongs to one archived file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from runcomfy.storage.keys import RESERVED
from runcomfy.storage.objects import Listed
from runcomfy.storage.store import Store

__all__ = ["Group", "groups"]

_LOOKED_INTO = frozenset({"quarantine"})
_PROVENANCE, _POSTER, _CONTACT_SHEET = ".json", ".jpg", ".sheet.jpg"


@dataclass
class Group:
    """A file and what is beside it, as far as it exists."""

    key: str
    size_bytes: int | None
    """`None` if there is a provenance, or what may be one, without a file."""
    has_provenance: bool = False
    has_poster: bool = False
    has_contact_sheet: bool = False
    is_beside: bool = False
    """Whether its name is that of something beside another file, so that it is no file unless it has a provenance."""


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
        while around and not each.key.startswith(around[-1].key):
            yield from _complete(around.pop())
        is_beside = each.key.endswith(_PROVENANCE)
        for end in (_PROVENANCE, _POSTER, _CONTACT_SHEET):
            base = next((group for group in reversed(around) if each.key == f"{group.key}{end}"), None)
            if base is not None:
                is_beside = True
                base.has_provenance |= end == _PROVENANCE
                base.has_poster |= end == _POSTER
                base.has_contact_sheet |= end == _CONTACT_SHEET
            elif end == _PROVENANCE and each.key.endswith(end):
                yield Group(each.key.removesuffix(end), None, has_provenance=True)
        around.append(Group(each.key, each.size_bytes, is_beside=is_beside))
    for group in reversed(around):
        yield from _complete(group)


def _complete(group: Group) -> Iterator[Group]:
    if group.has_provenance or not group.is_beside:
        yield group


def _is_reserved(name: str) -> bool:
    folder, slash, _ = name.partition("/")
    return bool(slash) and folder in RESERVED - _LOOKED_INTO
