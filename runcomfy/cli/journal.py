"""`journal`: what was paid for, how it ended, and a person's decisions on what is uncertain."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from cyclopts import App, Parameter

from runcomfy.cli import environment
from runcomfy.cli.log import log_progress
from runcomfy.cli.options import EPILOGUE, ArchivingOptions, BucketOptions, Json
from runcomfy.cli.output import print_facts, print_generation
from runcomfy.errors import ConfigurationError, InvalidInput
from runcomfy.policy import Deadlines

if TYPE_CHECKING:
    from runcomfy.cli.journal_view import Item
    from runcomfy.journal import Entry, Journal, Versioned
    from runcomfy.storage.commands import StoreOptions
    from runcomfy.values import Generation

__all__ = ["StateName", "journal_app"]

StateName: TypeAlias = Literal[
    "intent",
    "submitted",
    "detached",
    "uncertain",
    "expired",
    "archived",
    "failed",
    "refused",
    "cancelled",
    "released",
    "erased",
]
"""The states, as `EntryState` has them; that one is not loaded for a `--help`."""

Key: TypeAlias = Annotated[str, Parameter(help="The generation's key, or at least eight digits of it.")]

journal_app = App(
    name="journal",
    help="Show what was paid for and what became of it, and decide what is uncertain.",
    help_epilogue=EPILOGUE,
)


@journal_app.command(name="list")
def list_generations(
    *,
    state: Annotated[
        list[StateName] | None, Parameter(negative="", help="Only generations in this state; may be repeated.")
    ] = None,
    every: Annotated[
        bool, Parameter(name="--all", negative="", show_default=False, help="Also those that have ended.")
    ] = False,
    where: BucketOptions,
    json: Json = False,
) -> None:
    """List the generations that have not ended: what needs a person first, then the oldest first."""
    from runcomfy.cli.journal_output import print_list
    from runcomfy.journal import OPEN, EntryState

    wanted = {EntryState(name) for name in state} if state else set(EntryState) if every else OPEN
    journal = environment.journal(where.bucket, where.journal, where.settings)
    options = environment.store_options(where.bucket, where.journal, where.settings)
    items = asyncio.run(_everything(journal, options))
    print_list(
        [item for item in items if item.entry.state in wanted],
        [item for item in items if item.entry.state not in wanted],
        where=journal.store.where,
        options=options,
        as_json=json,
    )


@journal_app.command
def show(key: Key, /, *, where: BucketOptions, json: Json = False) -> None:
    """Show a generation with its history; as JSON, just as it is kept."""
    from runcomfy.cli.journal_output import print_entry
    from runcomfy.cli.journal_view import view

    journal = environment.journal(where.bucket, where.journal, where.settings)
    (item,) = view(
        [asyncio.run(journal.find(key))], environment.store_options(where.bucket, where.journal, where.settings)
    )
    print_entry(item, as_json=json)


@journal_app.command
def adopt(
    key: Key,
    request_id: Annotated[str, Parameter(help="The request that it became, from RunComfy's dashboard.")],
    /,
    *,
    archive: ArchivingOptions,
    deadlines: Annotated[Deadlines, Parameter(name="*")] = Deadlines(),
    no_wait: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="Only write it down; the next run or reconcile collects it."),
    ] = False,
    json: Json = False,
) -> None:
    """Say which request an uncertain submission became; wait for it, and archive what it makes."""
    environment.check(archive.bucket, archive.journal, archive.archive_key)
    journal = environment.journal(archive.bucket, archive.journal, archive.settings)
    entry = asyncio.run(_adopted(journal, key, request_id))
    if no_wait:
        print_facts("Adopted", _facts(entry), as_json=json)
        return
    log_progress()
    from runcomfy.cli.following import Following, finished, to_the_end
    from runcomfy.generation.engine import open_engine
    from runcomfy.journal import inputs_of, submission_of
    from runcomfy.policy import RunPolicy

    hooks = Following()

    async def made() -> Generation:
        account, hosts = environment.client(), environment.host_policy()
        here = archive.destination()
        there = here.at(entry.store)
        async with open_engine(account, there, hosts=hosts, policy=RunPolicy(deadlines), hooks=hooks) as engine:
            return await finished(engine, hooks, submission_of(entry), inputs_of(entry), entry.files)

    print_generation(to_the_end(made(), hooks), store=archive.options, as_json=json)


@journal_app.command
def release(
    key: Key,
    /,
    *,
    where: BucketOptions,
    yes: Annotated[bool, Parameter(negative="", show_default=False, help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Let the next run of the same inputs submit it again; what was submitted before may be billed all the same."""
    journal = environment.journal(where.bucket, where.journal, where.settings)
    entry = asyncio.run(_released(journal, key, ask=not yes))
    print_facts("Released", _facts(entry) | {"may_be_billed": entry.request_ids}, as_json=json)


async def _everything(journal: Journal, options: StoreOptions) -> list[Item]:
    from runcomfy.cli.journal_view import view

    def unreadable(key: str) -> None:
        print(f"{journal.store.where}/{key}.json is no entry that this version can read.", file=sys.stderr)

    found = [entry async for entry in journal.entries(unreadable=unreadable)]
    return view(found, options)


async def _adopted(journal: Journal, key: str, request_id: str) -> Entry:
    from runcomfy.journal import adopt

    async with environment.client() as client:
        return await adopt(client, journal, key, request_id)


async def _released(journal: Journal, key: str, *, ask: bool) -> Entry:
    from runcomfy.journal import release

    found = await journal.find(key)
    if ask:
        _confirm(found)
        if (await journal.find(key)).tag != found.tag:
            raise ConfigurationError(
                "The generation has changed in the meantime, and was not released: check it again."
            )
    return await release(journal, found.entry.generation_key)


def _confirm(found: Versioned) -> None:
    """Say what may be lost, and ask for confirmation."""
    entry = found.entry
    short = entry.generation_key[:12]
    if not sys.stdin.isatty():
        raise InvalidInput(f"No terminal to confirm the release of generation {short}. Give --yes to release it.")
    billed = (
        f"Request {', '.join(entry.request_ids)} may be running and billed, and nothing will collect it."
        if entry.request_ids
        else "What was submitted for it may be running and billed, and nothing will collect it."
    )
    if (rejected := entry.rejected) is not None and rejected.review is not None:
        billed = f"{rejected.uri} was {rejected.review.sentence}. It was paid for, and stays as it is."
    print(f"Generation {short} is {entry.state}.\n{billed}", file=sys.stderr)
    print("Let the next run submit it again, and pay again? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InvalidInput(f"Generation {short} was not released.")


def _facts(entry: Entry) -> dict[str, object]:
    return {
        "generation": entry.generation_key,
        "state": str(entry.state),
        "request_id": entry.request_id,
        "attempt": entry.attempt,
    }
