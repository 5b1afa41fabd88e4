"""The page of `review`: the files that were set aside, each as an image, with what is wrong and how to decide."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from blocks import MediaStore
from runcomfy.media.poster import contact_sheet_key, poster_key
from runcomfy.review import Item, set_aside
from runcomfy.storage.commands import StoreOptions
from runcomfy.texts import prompt_of
from tasks.pages.artifacts import address, poster_image
from tasks.pages.deciding import decisions, review_command
from tasks.pages.markdown import bullets, code, console, store_options, table, text

__all__ = ["page_of", "review_page", "waiting_for_review"]

_MOST_ROWS, _MOST_IMAGES = 50, 10
_SHEET_BYTES = 24_000
_MOST_READ = 2000


def waiting_for_review(store: MediaStore) -> tuple[list[Item], bool]:
    """Return the files that wait for a decision, and whether these are all. Blocks: a call for each file set aside.

    At most 2,000 files below `quarantine/` are read, those that were rejected and still lie there among them.

    Args:
        store: Whose.

    Raises:
        StorageError: it could not be listed or read.
    """
    waiting: list[Item] = []
    for number, item in enumerate(set_aside(store.get_store())):
        if number == _MOST_READ:
            return waiting, False
        if item.state in ("waiting", "accepting"):
            waiting.append(item)
    return waiting, True


async def review_page(waiting: Sequence[Item], store: MediaStore, *, complete: bool) -> str:
    """Return what waits for a decision, in Markdown: a table first, then an image of each; both are bounded.

    Args:
        waiting: The files.
        store: Where they are.
        complete: Whether there are no more.
    """
    options, more = store_options(store), ""
    if not complete:
        listing = console(review_command("list", None, options))
        looked_at = f"Only the first {_MOST_READ:,} files below quarantine/ were looked at"
        more = f"{looked_at}. All of them, in a terminal:\n\n{listing}"
    if not waiting:
        return "\n\n".join(filter(None, (f"No file {'waits for a decision' if complete else 'of these waits'}.", more)))
    rows = [
        (
            code((item.provenance.generation_key or item.provenance.request_id)[:12]),
            str(item.provenance.output_index),
            f"**{text(item.quality.verdict.replace('_', ' '))}**",
            text(" ".join(item.quality.reasons), longest=200),
            text(prompt_of(item.provenance.inputs) or "", longest=80),
            text(item.provenance.model_id.rpartition("/")[2]),
            "" if item.provenance.cost_usd is None else f"{item.provenance.cost_usd:.2f}",
            f"{item.provenance.archived_at:%Y-%m-%d %H:%M}",
        )
        for item in waiting[:_MOST_ROWS]
    ]
    names = ("file", "output", "verdict", "why", "prompt", "model", "USD", "archived, UTC")
    lines = [
        f"**{len(waiting):,} file{'s' * (len(waiting) != 1)} wait{'s' * (len(waiting) == 1)} for a decision.**",
        more,
        "Run this deployment again with **accept** or **reject** and the file, as the first column has it or by its "
        "address. Accepted, a file comes to its usual place; rejected, it stays where it is, and nothing is paid for "
        "again by itself.",
        table(names, rows, len(waiting)),
    ]
    for item in waiting[:_MOST_IMAGES]:
        lines += [await _shown(item, store, options)]
    if complete and len(waiting) > _MOST_IMAGES:
        lines += ["All of them, in a terminal:", console(review_command("list", None, options))]
    return "\n\n".join(filter(None, lines))


async def _shown(item: Item, store: MediaStore, options: StoreOptions) -> str:
    there, key = store.get_store(), item.key
    name = text(prompt_of(item.provenance.inputs) or key.rpartition("/")[2], longest=120)
    image = ""
    if item.provenance.contact_sheet_uri:
        image = await poster_image(there, contact_sheet_key(key), name, pixels=640, largest_bytes=_SHEET_BYTES)
    if not image and item.provenance.poster_uri:
        image = await poster_image(there, poster_key(key), name)
    facts = [
        f"**{text(item.quality.verdict.replace('_', ' '))}**: {text(' '.join(item.quality.reasons))}",
        "It was accepted, and is not moved yet: accept it again." if item.state == "accepting" else "",
        f"File: [{text(key.rpartition('/')[2])}]({address(there.bucket, key, there)}), {code(item.uri)}",
        f"Generation: {code(item.provenance.generation_key or 'unknown')}, output {item.provenance.output_index}",
    ]
    heading = f"### {name}"
    return "\n\n".join(filter(None, (heading, image, bullets(filter(None, facts), 0), decisions(item.uri, options))))


async def page_of(store: MediaStore) -> tuple[str, int]:
    """Return the page of a store as it is now, and how many files wait."""
    waiting, complete = await asyncio.to_thread(waiting_for_review, store)
    return await review_page(waiting, store, complete=complete), len(waiting)
