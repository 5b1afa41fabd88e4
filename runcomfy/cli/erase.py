"""`erase`: remove one generation everywhere that this command reaches, and say where it does not."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from runcomfy.cli import environment
from runcomfy.cli.options import ArchiveOptions, Json
from runcomfy.cli.output import print_facts
from runcomfy.errors import ConfigurationError, InvalidInput

if TYPE_CHECKING:
    from runcomfy.erasure import Erasure, ErasurePlan

__all__ = ["erase"]


def erase(
    key: Annotated[str, Parameter(help="The generation's key, or at least eight digits of it.")],
    /,
    *,
    archive: ArchiveOptions,
    yes: Annotated[bool, Parameter(negative="", show_default=False, help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, Parameter(negative="", show_default=False, help="Only list what would be removed; change nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Erase one generation for good: its files, its words and its input files that nothing else uses.

    What remains in the journal, ids, times and costs, keeps the next run from paying for it again, until a person
    releases it. What this command cannot reach is named. Interrupted, it is run again.
    """
    from runcomfy.erasure import carry_out, prepare

    if archive.journal.strip() == "none":
        raise ConfigurationError(
            "The journal is 'none': nothing is known of generations, so none can be erased by its key."
        )
    there = environment.destination(archive.bucket, archive.journal, archive.archive_key, archive.settings)

    async def erased() -> ErasurePlan | Erasure:
        plan = await prepare(there, key)
        if dry_run:
            return plan
        if not yes:
            _print(plan, "To be erased", as_json=False, to_stderr=True)
            _confirm(plan)
        return await carry_out(plan)

    done = asyncio.run(erased())
    _print(done, "To be erased" if dry_run else "Erased", as_json=json)


def _confirm(plan: ErasurePlan) -> None:
    short = plan.entry.generation_key[:12]
    if not sys.stdin.isatty():
        raise InvalidInput(f"No terminal to confirm the erasure of generation {short}. Give --yes to erase it.")
    print(f"Erase generation {short} for good? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InvalidInput(f"Generation {short} was not erased.")


def _print(done: ErasurePlan | Erasure, title: str, *, as_json: bool, to_stderr: bool = False) -> None:
    entry = done.entry
    facts: dict[str, object] = {
        "generation": entry.generation_key,
        "state": str(entry.state),
        "request_ids": entry.request_ids,
        "deleted": list(done.files),
        "written_without_it": list(done.documents),
        "left": done.left,
        "out_of_reach": list(done.out_of_reach),
    }
    if as_json:
        print_facts("", facts, as_json=True)
        return
    shown = facts | {
        "request_ids": ", ".join(entry.request_ids) or None,
        "deleted": "\n".join(done.files) or "nothing",
        "written_without_it": "\n".join(done.documents) or None,
        "left": "\n".join(f"{uri}: {why}" for uri, why in done.left.items()) or None,
        "out_of_reach": "\n".join(done.out_of_reach),
    }
    print_facts(title, shown, as_json=False, to_stderr=to_stderr)
