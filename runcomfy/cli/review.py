"""`review`: what was set aside because it was judged suspect or damaged, and a person's decision about it."""

from __future__ import annotations

import asyncio
import getpass
import itertools
import json as json_module
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import App, Parameter
from cyclopts.validators import Number

from runcomfy.cli import environment
from runcomfy.cli.options import EPILOGUE, BucketOptions, Json
from runcomfy.cli.output import print_facts
from runcomfy.errors import InvalidInput
from runcomfy.storage.commands import StoreOptions, shell_command

if TYPE_CHECKING:
    from runcomfy.generation.destination import Destination
    from runcomfy.review import Item

__all__ = ["review_app"]

Named: TypeAlias = Annotated[
    str,
    Parameter(help="The generation's key, or at least eight digits of it; or the file's s3:// address."),
]
Output: TypeAlias = Annotated[
    int | None,
    Parameter(
        validator=Number(gte=0), show_default=False,
        help="Which of the generation's files, from 0; needed where several were set aside.",
    ),
]  # fmt: skip
By: TypeAlias = Annotated[
    str | None, Parameter(show_default=False, help="Who decides; the login name of this machine without it.")
]
Reason: TypeAlias = Annotated[str | None, Parameter(show_default=False, help="Why, in a sentence; it is recorded.")]

review_app = App(
    name="review",
    help="Decide about files that were set aside because they were judged suspect or damaged (--on-defect set_aside).",
    help_epilogue=EPILOGUE,
)


@review_app.command(name="list")
def list_files(
    *,
    every: Annotated[
        bool, Parameter(name="--all", negative="", show_default=False, help="Also those that were rejected.")
    ] = False,
    where: BucketOptions,
    json: Json = False,
) -> None:
    """List the files that wait for a person's decision, by the provenances below quarantine/; no journal is needed."""
    from runcomfy.review import set_aside

    store = environment.store(where.bucket, where.settings)
    listed = (item for item in set_aside(store) if every or item.state != "rejected")
    if json:
        _print_json(store.uri(store.prefix), listed)
        return
    states: list[str] = []
    for item in listed:
        states.append(item.state)
        _print_item(item)
    if all(state == "rejected" for state in states):
        print(f"No file in {store.uri(store.prefix)} waits for a decision.")
        return
    for word in ("accept", "reject"):
        print(f"To {word} one: `{shell_command('review', word, 'FILE', *where.options.for_journal)}`")


@review_app.command
def accept(
    file: Named,
    /,
    *,
    output: Output = None,
    by: By = None,
    reason: Reason = None,
    where: BucketOptions,
    json: Json = False,
) -> None:
    """Accept a file: it comes to its usual place, and the journal says so. If it is interrupted, run it again."""
    from runcomfy.review import accept as accept_file
    from runcomfy.review import choose

    there = _destination(where)

    async def decided() -> Item:
        return await accept_file(there, await choose(there, file, output), by=by or _login(), reason=reason)

    _print_decided("Accepted", asyncio.run(decided()), where.options, as_json=json)


@review_app.command
def reject(
    file: Named,
    /,
    *,
    output: Output = None,
    by: By = None,
    reason: Reason = None,
    delete: Annotated[
        bool,
        Parameter(
            negative="", show_default=False,
            help="Delete the file with its poster and contact sheet; its provenance stays as the record.",
        ),
    ] = False,
    where: BucketOptions,
    json: Json = False,
) -> None:  # fmt: skip
    """Reject a file: it stays below quarantine/, and nothing is fetched or paid for again by itself.

    A run of the same inputs ends with OutputRejected (exit code 16); `journal release` alone lets one pay again.
    """
    from runcomfy.review import choose
    from runcomfy.review import reject as reject_file

    there = _destination(where)

    async def decided() -> Item:
        item = await choose(there, file, output)
        return await reject_file(there, item, by=by or _login(), reason=reason, delete=delete)

    _print_decided("Rejected", asyncio.run(decided()), where.options, as_json=json)


def _destination(where: BucketOptions) -> Destination:
    return environment.destination(where.bucket, where.journal, None, where.settings)


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        raise InvalidInput("This machine does not know who you are: say who decides, with --by NAME.") from None


def _facts(item: Item) -> dict[str, Any]:
    described, review = item.provenance, item.review
    return {
        "generation": described.generation_key,
        "request_id": described.request_id,
        "output": described.output_index,
        "state": item.state,
        "verdict": item.quality.verdict,
        "reasons": list(item.quality.reasons),
        "model_id": described.model_id,
        "archived_at": described.archived_at.isoformat(),
        "cost_usd": described.cost_usd,
        "uri": item.uri,
        "usual_uri": item.usual_uri,
        "has_file": item.has_file,
        "poster_uri": described.poster_uri,
        "contact_sheet_uri": described.contact_sheet_uri,
        "review": review.model_dump(mode="json") if review is not None else None,
    }


def _print_json(where: str, items: Iterator[Item]) -> None:
    """Print one JSON object, a file at a time: there may be more of them than memory."""
    first = list(itertools.islice(items, 1))  # a store that refuses does so here, before anything is printed
    print(f'{{"bucket": {json_module.dumps(where)}, "files": [', end="")
    for number, item in enumerate(itertools.chain(first, items)):
        print(", " if number else "", json_module.dumps(_facts(item)), sep="", end="")
    print("]}")


def _print_item(item: Item) -> None:
    described = item.provenance
    facts = {
        "file": item.uri if item.has_file else f"{item.uri} (it is not there any more)",
        "judged": " ".join([f"{item.quality.verdict}:", *item.quality.reasons]),
        "poster": described.poster_uri if item.has_file else None,
        "contact sheet": described.contact_sheet_uri if item.has_file else None,
        "model": described.model_id,
        "request": described.request_id,
        "decided": item.review.sentence if item.review is not None else None,
        "what now": "its acceptance broke off: accept it again" if item.state == "accepting" else None,
    }
    key = (described.generation_key or "")[:12] or "of no generation in a journal"
    print_facts(f"{key}, output {described.output_index}: {item.state}", facts, as_json=False)


def _print_decided(title: str, item: Item, options: StoreOptions, *, as_json: bool) -> None:
    if as_json:
        print_facts("", _facts(item), as_json=True)
        return
    described, key = item.provenance, (item.provenance.generation_key or "")[:12]
    release = shell_command("journal", "release", key, *options.for_journal)
    may_release = item.state == "rejected" and key and options.has_journal
    facts = {
        "file": item.uri if item.has_file else f"{item.uri} (deleted; its provenance stays)",
        "generation": described.generation_key,
        "output": described.output_index,
        "decided": item.review.sentence if item.review is not None else "it was at its usual place already",
        "what now": f"To pay for another one: `{release}`, and run the same inputs again." if may_release else None,
    }
    print_facts(title, facts, as_json=False)
