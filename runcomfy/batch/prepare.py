"""Read a manifest, check all of it, and find out what is left to do: nothing is paid for here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runcomfy.batch.plan import PlannedRow, stage_images
from runcomfy.batch.status import RowStatus, known_rows, look_up
from runcomfy.generation.destination import Destination
from runcomfy.generation.hooks import Log
from runcomfy.manifest import Manifest, read_manifest

__all__ = ["BatchPlan", "prepare"]

_SHOWN_WARNINGS = 50


@dataclass(frozen=True)
class BatchPlan:
    """A manifest that can be run as it is."""

    manifest: Manifest
    rows: list[PlannedRow]
    status: RowStatus


async def prepare(
    manifest: str,
    destination: Destination,
    defaults: dict[str, Any],
    log: Log,
    *,
    allow_placeholder_prompts: bool = False,
) -> BatchPlan:
    """Read and check a manifest as a whole, stage its images, and look up what is archived already.

    Args:
        manifest: A path or `s3://bucket/key`: .csv, .tsv, .jsonl, .ndjson, .parquet, .xlsx or .xlsm.
        destination: Where images are staged, and where the journal is.
        defaults: What counts where a row gives nothing.
        log: Takes the progress, and what may spoil a video.
        allow_placeholder_prompts: Whether a prompt may be what programs write where there is none, such as `nan`.

    Raises:
        InvalidInput: it cannot be read, or some rows cannot be used, each of which is named; nothing was paid for.
        StorageError: the store could not be read or written.
    """
    store, journal = destination.store, destination.journal
    read = await asyncio.to_thread(
        read_manifest, manifest, store, defaults=defaults, allow_placeholder_prompts=allow_placeholder_prompts
    )
    log.info("%s: %d rows, %d of them cannot be used", read.uri, read.row_count, len(read.bad))

    async def on_staged(done: int, total: int) -> None:
        if done == total or done % 100 == 0:
            log.info("%d of %d images checked and staged", done, total)

    rows = await known_rows(await stage_images(read, store, on_staged=on_staged), journal)
    _warn(rows, log)
    status = await look_up(rows, journal, store)
    log.info("%d of %d rows are archived already", len(status.existing), len(rows))
    return BatchPlan(read, rows, status)


def _warn(rows: Sequence[PlannedRow], log: Log) -> None:
    """Warn of what may spoil a video, once for each image, before anything is paid for."""
    warned: dict[str, list[PlannedRow]] = {}
    for row in rows:
        if row.staged is not None and row.staged.warnings:
            warned.setdefault(row.staged.sha256, []).append(row)
    for same in list(warned.values())[:_SHOWN_WARNINGS]:
        more = f" (and {len(same) - 1:,} more rows)" if len(same) > 1 else ""
        image = same[0].staged
        log.warning("%s%s: %s", same[0].label, more, " ".join(image.warnings if image else ()))
    if len(warned) > _SHOWN_WARNINGS:
        log.warning("%d more images may spoil their videos", len(warned) - _SHOWN_WARNINGS)
