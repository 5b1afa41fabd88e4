"""What a batch is to do: every row of a manifest, with its image staged and its key known.

Everything that can be wrong with a manifest is found here, before anything is paid for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict

from runcomfy.errors import InvalidInput
from runcomfy.generation.staging import stage_image
from runcomfy.manifest import BadRow, Manifest, refuse_rows
from runcomfy.models import generation_key
from runcomfy.models.orders import Order
from runcomfy.retry import with_retries
from runcomfy.storage.store import Store
from runcomfy.values import StagedImage

__all__ = [
    "PlannedRow",
    "rows_from_json",
    "rows_to_json",
    "stage_images",
]

_STAGING_AT_ONCE = 8
_READING_AT_ONCE = 32


class PlannedRow(BaseModel):
    """A row that can be submitted as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: int
    order: Order
    staged: StagedImage | None
    generation_key: str
    source: dict[str, Any]
    """The row as it is in the manifest."""

    @property
    def label(self) -> str:
        """What it is called in a run."""
        return f"line {self.line}"


async def stage_images(
    manifest: Manifest, store: Store, *, on_staged: Callable[[int, int], Awaitable[None]] | None = None
) -> list[PlannedRow]:
    """Stage the image of every row, each image once, and return the rows as they can be submitted.

    Args:
        manifest: As it was read.
        store: Where images are staged; one that exists there already is not uploaded again.
        on_staged: Awaited after each with how many images are staged, and how many there are.

    Raises:
        InvalidInput: some rows, or their images, cannot be used; every line is named, and nothing was paid for.
        StorageError: the store could not be read or written.
    """
    images = dict.fromkeys(row.order.image for row in manifest.rows if row.order.image is not None)
    gate, done, problems = asyncio.Semaphore(_STAGING_AT_ONCE), 0, dict[str, str]()
    staged: dict[str, StagedImage] = {}

    async def stage(image: str) -> None:
        nonlocal done
        async with gate:
            try:
                staged[image] = await with_retries(lambda: stage_image(image, store), multiplier=1, max_seconds=20)
            except InvalidInput as error:
                problems[image] = error.message
            done += 1
            if on_staged is not None:
                await on_staged(done, len(images))

    await asyncio.gather(*map(stage, images))

    bad = {row.line: row for row in manifest.bad}
    planned, first = list[PlannedRow](), dict[str, int]()
    for row in manifest.rows:
        order = row.order
        if order.image in problems:
            bad[row.line] = BadRow(line=row.line, problems=(f"image: {problems[order.image]}",))
            continue
        image = staged[order.image] if order.image is not None else None
        sha256 = image.sha256 if image else None
        key = generation_key(order.inputs(image), image_sha256=sha256, variation=order.variation)
        if first.setdefault(key, row.line) != row.line:
            twice = (
                f"image: it has the same content as that of line {first[key]}, and all else is the same too; give it "
                "another seed or variation for another take",
            )
            bad[row.line] = BadRow(line=row.line, problems=twice)
            continue
        planned.append(PlannedRow(line=row.line, order=order, staged=image, generation_key=key, source=row.source))
    if bad:
        refuse_rows(manifest, bad.values())
    return planned


def rows_to_json(rows: Iterable[PlannedRow]) -> bytes:
    """Return rows as JSON Lines, for the workers that share a batch: with what they need, and no signed URL."""
    return b"".join(_without_source(row).model_dump_json().encode() + b"\n" for row in rows)


def _without_source(row: PlannedRow) -> PlannedRow:
    order = row.order.model_copy(update={"image": row.staged.uri if row.staged else None})
    return row.model_copy(update={"source": {}, "order": order})


def rows_from_json(document: bytes) -> list[PlannedRow]:
    """Read what `rows_to_json` wrote."""
    return [PlannedRow.model_validate_json(line) for line in document.splitlines()]
