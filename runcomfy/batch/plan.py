"""What a batch is to do: every row of a manifest, with its media staged and its key known.

Everything that can be wrong with a manifest is found here, before anything is paid for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from runcomfy.errors import InvalidInput
from runcomfy.generation.models import broken_rules, stage_medium
from runcomfy.manifest import BadRow, Manifest, refuse_rows
from runcomfy.models import generation_key, inputs_class
from runcomfy.models.media_fields import MediaKind
from runcomfy.models.orders import Kinds, Order
from runcomfy.models.staged import media_sha256
from runcomfy.retry import with_retries
from runcomfy.storage.store import Store
from runcomfy.values import StagedFile

__all__ = [
    "PlannedRow",
    "models_of",
    "rows_from_json",
    "rows_to_json",
    "stage_media",
    "stage_order",
]

Medium = tuple[MediaKind, str]
"""What a file has to be, and where it is read from."""

_STAGING_AT_ONCE = 8


def _files(given: Any) -> Any:
    """Return the staged files of a row; earlier versions wrote the only image, or `None`."""
    return given if isinstance(given, list | tuple) else () if given is None else (given,)


class PlannedRow(BaseModel):
    """A row that can be submitted as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: int
    order: Order
    staged: Annotated[tuple[StagedFile, ...], BeforeValidator(_files)]
    """Its media, each once."""
    generation_key: str
    source: dict[str, Any]
    """The row as it is in the manifest."""

    @property
    def label(self) -> str:
        """What it is called in a run."""
        return f"line {self.line}"


async def stage_media(
    manifest: Manifest, store: Store, *, on_staged: Callable[[int, int], Awaitable[None]] | None = None
) -> list[PlannedRow]:
    """Stage the media of every row, each file once, and return the rows as they can be submitted.

    Args:
        manifest: As it was read.
        store: Where media are staged; one that exists there already is not uploaded again.
        on_staged: Awaited after each with how many files are staged, and how many there are.

    Raises:
        InvalidInput: some rows, or their media, cannot be used; every line is named, and nothing was paid for.
        StorageError: the store could not be read or written.
    """
    media = dict.fromkeys(medium for row in manifest.rows for _, medium in _media_of(row.order))
    gate, done, problems = asyncio.Semaphore(_STAGING_AT_ONCE), 0, dict[Medium, str]()
    staged: dict[Medium, StagedFile] = {}

    async def stage(medium: Medium) -> None:
        nonlocal done
        async with gate:
            kind, source = medium
            try:
                staged[medium] = await with_retries(
                    lambda: stage_medium(source, kind, store), multiplier=1, max_seconds=20
                )
            except InvalidInput as error:
                problems[medium] = error.message
            done += 1
            if on_staged is not None:
                await on_staged(done, len(media))

    await asyncio.gather(*map(stage, media))

    bad = {row.line: row for row in manifest.bad}
    planned, first = list[PlannedRow](), dict[str, int]()
    for row in manifest.rows:
        if found := _unusable(row.order, staged, problems):
            bad[row.line] = BadRow(line=row.line, problems=tuple(found))
            continue
        order, files = _staged_order(row.order, staged)
        inputs = order.inputs(files)
        key = generation_key(inputs, media=media_sha256(inputs, files), variation=order.variation)
        if first.setdefault(key, row.line) != row.line:
            what = "image: it has the same content as that" if order.kind is None else "its files are the same as those"
            twice = (
                f"{what} of line {first[key]}, and all else is the same too; give it another seed or variation for "
                "another take",
            )
            bad[row.line] = BadRow(line=row.line, problems=twice)
            continue
        planned.append(PlannedRow(line=row.line, order=order, staged=files, generation_key=key, source=row.source))
    if bad:
        refuse_rows(manifest, bad.values())
    return planned


async def stage_order(order: Order, store: Store) -> tuple[Order, tuple[StagedFile, ...]]:
    """Stage the media of one order, and return it with them.

    Raises:
        InvalidInput: A file cannot be used; nothing was paid for.
        StorageError: the store could not be read or written.
    """
    media = dict.fromkeys(medium for _, medium in _media_of(order))
    files = await asyncio.gather(*(stage_medium(source, kind, store) for kind, source in media))
    staged = dict(zip(media, files, strict=True))
    if found := _unusable(order, staged, {}):
        raise InvalidInput(f"{' '.join(found)} Nothing was paid for.")
    return _staged_order(order, staged)


def _media_of(order: Order) -> list[tuple[str, Medium]]:
    """Return the media of an order, each with its input."""
    fields = (order.kind or inputs_class(order.model_id)).media
    return [(name, (fields[name].kind, source)) for name, sources in order.media().items() for source in sources]


def _unusable(order: Order, staged: Mapping[Medium, StagedFile], problems: Mapping[Medium, str]) -> list[str]:
    """Return what is wrong with the media of an order."""
    found = list[str]()
    for name, medium in _media_of(order):
        shown = "image" if order.kind is None else name
        if medium in problems:
            found.append(f"{shown}: {problems[medium]}")
        elif order.kind is not None:
            found += (f"{shown}: {sentence}" for sentence in broken_rules(order.kind.media[name], staged[medium]))
    return list(dict.fromkeys(found))


def _staged_order(order: Order, staged: Mapping[Medium, StagedFile]) -> tuple[Order, tuple[StagedFile, ...]]:
    """Return an order whose media are its staged files, and those."""
    uris: dict[str, list[str]] = {}
    for name, medium in _media_of(order):
        uris.setdefault(name, []).append(staged[medium].uri)
    files = tuple(dict.fromkeys(staged[medium] for _, medium in _media_of(order)))
    return (order if order.kind is None else order.with_media(uris)), files


def rows_to_json(rows: Iterable[PlannedRow]) -> bytes:
    """Return rows as JSON Lines, for the workers that share a batch: with what they need, and no signed URL."""
    return b"".join(_without_source(row).model_dump_json().encode() + b"\n" for row in rows)


def _without_source(row: PlannedRow) -> PlannedRow:
    order = row.order
    if order.kind is None:
        order = order.model_copy(update={"image": row.staged[0].uri if row.staged else None})
    return row.model_copy(update={"source": {}, "order": order})


def rows_from_json(document: bytes, kinds: Kinds | None = None) -> list[PlannedRow]:
    """Read what `rows_to_json` wrote.

    Args:
        document: The rows.
        kinds: The models of the catalogue among them; see `models_of`.

    Raises:
        InvalidInput: There is no class of a model.
    """
    rows = (PlannedRow.model_validate_json(line) for line in document.splitlines())
    return [row.model_copy(update={"order": row.order.known_to(kinds or {})}) for row in rows]


def models_of(document: bytes) -> frozenset[str]:
    """Return the models of rows that `rows_to_json` wrote."""
    return frozenset(PlannedRow.model_validate_json(line).order.model_id for line in document.splitlines())
