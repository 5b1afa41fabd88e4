"""What a batch is to do: every row of a manifest, with its picture staged and its key known, and what is done already.

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
from runcomfy.retry import retried
from runcomfy.storage.store import Store
from runcomfy.values import StagedImage

__all__ = [
    "PlannedRow",
    "check_pictures",
    "rows_from_json",
    "rows_to_json",
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
    """The row as it stands in the manifest."""

    @property
    def label(self) -> str:
        """What it is called in a run."""
        return f"line {self.line}"


async def check_pictures(
    manifest: Manifest, store: Store, *, said: Callable[[int, int], Awaitable[None]] | None = None
) -> list[PlannedRow]:
    """Stage the picture of every row, each picture once, and return the rows as they can be submitted.

    Args:
        manifest: As it was read.
        store: Where pictures are staged; what stands there already is not uploaded again.
        said: Awaited now and then with how many pictures are staged, and how many there are.

    Raises:
        InvalidInput: some rows cannot be used: they, or their pictures; with every line, and nothing was paid for.
        StorageError: the store could not be read or written.
    """
    pictures = dict.fromkeys(row.order.image for row in manifest.rows if row.order.image is not None)
    gate, done, trouble = asyncio.Semaphore(_STAGING_AT_ONCE), 0, dict[str, str]()
    staged: dict[str, StagedImage] = {}

    async def stage(picture: str) -> None:
        nonlocal done
        async with gate:
            try:
                staged[picture] = await retried(lambda: stage_image(picture, store), multiplier=1, max_seconds=20)
            except InvalidInput as error:
                trouble[picture] = error.message
            done += 1
            if said is not None:
                await said(done, len(pictures))

    await asyncio.gather(*map(stage, pictures))

    bad = {row.line: row for row in manifest.bad}
    planned, first = list[PlannedRow](), dict[str, int]()
    for row in manifest.rows:
        order = row.order
        if order.image in trouble:
            bad[row.line] = BadRow(line=row.line, problems=(f"image: {trouble[order.image]}",))
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
    """Return rows as JSON Lines, for the workers that share a batch: with what they need, and no URL that is signed."""
    return b"".join(_for_others(row).model_dump_json().encode() + b"\n" for row in rows)


def _for_others(row: PlannedRow) -> PlannedRow:
    order = row.order.model_copy(update={"image": row.staged.uri if row.staged else None})
    return row.model_copy(update={"source": {}, "order": order})


def rows_from_json(document: bytes) -> list[PlannedRow]:
    """Read what `rows_to_json` wrote."""
    return [PlannedRow.model_validate_json(line) for line in document.splitlines()]
