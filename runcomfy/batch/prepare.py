"""Read a manifest, check all of it, and find out what is left to do: nothing is paid for here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runcomfy.api.client import RunComfyClient
from runcomfy.batch.plan import PlannedRow, stage_media
from runcomfy.batch.prices import RowPrices
from runcomfy.batch.status import RowStatus, known_rows, look_up
from runcomfy.errors import InvalidInput
from runcomfy.generation.destination import Destination
from runcomfy.generation.hooks import Log
from runcomfy.generation.models import kinds_of
from runcomfy.journal import Journal
from runcomfy.manifest import Manifest, open_manifest
from runcomfy.manifest.table import shown
from runcomfy.models import MODELS
from runcomfy.models.columns import named_model
from runcomfy.models.orders import Kinds
from runcomfy.polling.forecast import RunTimes
from runcomfy.values import StagedImage

__all__ = ["BatchPlan", "prepare"]

_SHOWN_WARNINGS = 50
_MOST_MODELS = 100


@dataclass(frozen=True)
class BatchPlan:
    """A manifest that can be run as it is."""

    manifest: Manifest
    rows: list[PlannedRow]
    status: RowStatus
    prices: RowPrices
    """Of the rows that may be paid for."""


async def prepare(
    manifest: str,
    destination: Destination,
    defaults: dict[str, Any],
    log: Log,
    *,
    client: Callable[[], RunComfyClient],
    allow_placeholder_prompts: bool = False,
) -> BatchPlan:
    """Read and check a manifest as a whole, stage its media, and look up what is archived already.

    Args:
        manifest: A path or `s3://bucket/key`: .csv, .tsv, .jsonl, .ndjson, .parquet, .xlsx or .xlsm.
        destination: Where media are staged, and where the journal with the pins of models is.
        defaults: What counts where a row gives nothing.
        log: Takes the progress, and what may spoil a video.
        client: Returns a client, not opened yet: the catalogue is asked for a model that is not pinned.
        allow_placeholder_prompts: Whether a prompt may be what programs write where there is none, such as `nan`.

    Raises:
        InvalidInput: it cannot be read, or some rows cannot be used, each of which is named; nothing was paid for.
        ServiceError: the catalogue could not be read.
        StorageError: the store could not be read or written.
    """
    store, journal = destination.store, destination.journal
    opened = await asyncio.to_thread(open_manifest, manifest, store, defaults)
    kinds = await _kinds(await asyncio.to_thread(lambda: opened.models), defaults, client, journal)
    read = await asyncio.to_thread(opened.manifest, kinds, allow_placeholder_prompts=allow_placeholder_prompts)
    usable = f"{len(read.bad)} of them cannot be used" if read.bad else "all of them can be used"
    log.info("%s: %d rows, %s", read.uri, read.row_count, usable)

    async def on_staged(done: int, total: int) -> None:
        if done == total or done % 100 == 0:
            log.info("%d of %d files checked and staged", done, total)

    rows = await known_rows(await stage_media(read, store, on_staged=on_staged), journal)
    _warn(rows, log)
    status = await look_up(rows, journal, store)
    log.info("%d of %d rows are archived already", len(status.existing), len(rows))
    # Also those that are paid for: an uncertain one, or one that fails, may be paid for again; an erased or rejected
    # one is not.
    left = [row for row in status.to_do(rows) if not status.is_held(row)]
    prices = await asyncio.to_thread(RowPrices.of, left, await RunTimes(journal).load())
    if prices.sentence:
        log.info("Price of the %d rows that are left: %s", len(left), prices.sentence)
    return BatchPlan(read, rows, status, prices)


async def _kinds(
    models: Iterable[str], defaults: Mapping[str, Any], client: Callable[[], RunComfyClient], journal: Journal
) -> Kinds:
    """Return the classes of the models of the catalogue that a manifest names."""
    if not (named := [name for name in models if name and name not in MODELS]):
        return {}
    if len(named) > _MOST_MODELS:  # each is a call to the catalogue: is the column of something else?
        raise InvalidInput(
            f"The manifest names {len(named):,} models, such as {shown(min(named))!r}; {_MOST_MODELS} are allowed. "
            "Check what its column model holds, or split it. Nothing was paid for."
        )
    async with client() as opened:
        kinds = await kinds_of(named, opened, journal)
    if isinstance(trouble := kinds.get(named_model(defaults.get("model"))), InvalidInput):
        raise trouble
    return kinds


def _warn(rows: Sequence[PlannedRow], log: Log) -> None:
    """Warn of what may spoil a result, once for each image, before anything is paid for."""
    warned: dict[str, list[tuple[PlannedRow, StagedImage]]] = {}
    for row in rows:
        for file in row.staged:
            if isinstance(file, StagedImage) and file.warnings:
                warned.setdefault(file.sha256, []).append((row, file))
    for same in list(warned.values())[:_SHOWN_WARNINGS]:
        more = f" (and {len(same) - 1:,} more rows)" if len(same) > 1 else ""
        row, image = same[0]
        log.warning("%s%s: %s", row.label, more, " ".join(image.warnings))
    if len(warned) > _SHOWN_WARNINGS:
        log.warning("%d more images may spoil their results", len(warned) - _SHOWN_WARNINGS)
