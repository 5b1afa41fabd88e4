"""What the `journal` commands print: a table that fits the terminal, whole lines for a pipe, or one JSON object."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from humanize import naturaldelta
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runcomfy.cli.journal_view import Item, totals
from runcomfy.cli.output import json_text, print_facts
from runcomfy.journal import Entry, EntryState
from runcomfy.storage.commands import StoreOptions, shell_command
from runcomfy.values import ArchivedVideo

__all__ = ["print_entry", "print_list"]

_STYLES = {
    EntryState.UNCERTAIN: "bold red",
    EntryState.EXPIRED: "bold red",
    EntryState.DETACHED: "yellow",
    EntryState.ARCHIVED: "green",
    EntryState.FAILED: "red",
}
_COLUMNS = ("key", "state", "age", "model", "request", "#", "USD", "prompt", "why")
_WIDE, _ROOMY, _NARROW = 140, 90, 80
_REQUEST_WIDTH = 36  # a UUID's
_AGE_WIDTH = 10  # "59 minutes"; years are folded
_PROMPT_LENGTH = 60
_FACTS_INDENT, _HISTORY_INDENT, _NARROWEST = 20, 23, 40


def print_list(
    items: Sequence[Item], others: Sequence[Item], *, where: str, options: StoreOptions, as_json: bool
) -> None:
    """Print generations, and what they cost or may cost.

    Args:
        items: What is listed.
        others: What is not, and is only counted.
        where: Where the journal is.
        options: The same, as commands name it.
        as_json: Whether one JSON object is printed.
    """
    by_state, total = totals(items)
    counted = {state: each.generations for state, each in totals(others)[0].items()}
    if as_json:
        described = {
            "journal": where,
            "generations": [item.described() for item in items],
            "totals": {
                "by_state": {str(state): asdict(each) for state, each in by_state.items()},
                "listed": asdict(total),
                "not_listed": {str(state): count for state, count in counted.items()},
            },
        }
        print(json_text(described))
        return
    console = Console(highlight=False)
    if items:
        _print_items(console, items)
        console.print()
        sums = [(str(state), str(each.generations), str(each)) for state, each in by_state.items()]
        _print_lines(console, [*sums, ("in all", str(total.generations), str(total))])
        for note in _notes(items, options):
            _say(console, _wrapped(console, note))
    rest = ", ".join(f"{count} {state}" for state, count in counted.items())
    if rest:
        _say(console, _wrapped(console, f"{'' if items else 'None. '}Not listed: {rest} (--all)."))
    elif not items:
        _say(console, f"The journal in {where} is empty.")


def print_entry(item: Item, *, as_json: bool) -> None:
    """Print all that the journal holds of a generation; as JSON, just as it is kept."""
    entry = item.entry
    if as_json:
        print(json_text(json.loads(entry.to_json())))
        return
    console = Console(highlight=False)
    advice = item.advice
    facts = {
        "state": f"{entry.state}; the submission was begun {_age(item.age_seconds)} ago",
        "what now": _wrapped(console, _line(advice.text), _FACTS_INDENT),
        "who acts": str(advice.who),
        "paid for": advice.paid,
        "why": _wrapped(console, _line(advice.happened), _FACTS_INDENT) or None,
        "request_id": _text(entry.request_id),
        "earlier requests": _line(", ".join(known for known in entry.request_ids if known != entry.request_id)) or None,
        "submitted_at": _time(entry.submitted_at),
        "cost_usd": entry.cost_usd,
        "model": entry.model_id,
        "service": entry.service,
        "attempt": entry.attempt,
        "variation": entry.variation or None,
        "flow run": " ".join(entry.flow_run[name] for name in ("name", "id") if name in entry.flow_run) or None,
    }
    print_facts(f"Generation {entry.generation_key}", facts, as_json=False)
    print_facts("Inputs", {name: _text(value) for name, value in entry.inputs.items()}, as_json=False)
    if entry.image is not None:
        image = entry.image
        described = f"{image.content_type}, {image.width} x {image.height}, {image.size_bytes:,} bytes"
        print_facts("Image", {"image": image.uri, "is": described, "sha256": image.sha256}, as_json=False)
    for video in entry.archive.videos if entry.archive else ():
        print_facts(
            f"Archive {video.index}",
            {
                video.media.noun: video.uri,
                "set aside": _reviewed(video),
                "provenance": video.provenance_uri,
                "sha256": video.sha256,
            },
            as_json=False,
        )
    console.print("History (UTC)", style="bold")
    _print_history(console, entry)


def _reviewed(video: ArchivedVideo) -> str | None:
    if video.review is not None:
        return _line(video.review.sentence)
    return "a person has to decide" if video.set_aside else None


def _print_history(console: Console, entry: Entry) -> None:
    """Print a line a step; in a terminal, where ids leave no room for it, the reason is on the next line."""
    rows = [
        (
            f"  {_time(event.at)}",
            str(event.state),
            event.worker,
            _line(event.request_id or "-"),
            _line(event.reason or ""),
        )
        for event in entry.history
    ]
    if not console.is_terminal:
        _print_lines(console, rows)
        return
    lines = _lines([row[:-1] for row in rows])
    for line, (*_, reason) in zip(lines, rows, strict=True):
        _say(console, line)
        if reason:
            _say(console, textwrap.indent(_wrapped(console, reason, _HISTORY_INDENT), " " * _HISTORY_INDENT))


def _notes(items: Sequence[Item], options: StoreOptions) -> Iterator[str]:
    if any(item.stake.basis == "estimated" for item in items):
        yield "~ is not known yet: what is usual for the model in this journal."
    if any(item.needs_person for item in items):
        show = shell_command("journal", "show", "KEY", *options.for_journal)
        yield f"`{show}` says what to do about those that are {_people(items)}."


def _people(items: Sequence[Item]) -> str:
    return " or ".join(dict.fromkeys(str(item.entry.state) for item in items if item.needs_person))


def _print_items(console: Console, items: Sequence[Item]) -> None:
    if console.is_terminal and console.width >= _WIDE:
        console.print(_wide_table(items))
    elif console.is_terminal and console.width >= _NARROW:
        console.print(_narrow_table(items, gap=1 if console.width < _ROOMY else 2))
    else:
        _print_lines(console, [tuple(name.upper() for name in _COLUMNS), *(_cells(item) for item in items)])


def _wide_table(items: Iterable[Item]) -> Table:
    """A line a generation; only what is long and in plain words is folded."""
    table = _table(2)
    for name in _COLUMNS:
        folded = name in ("prompt", "why")
        table.add_column(
            name,
            no_wrap=not folded and name != "request",  # an id without room is folded too: nothing is cut
            overflow="fold",
            min_width=_REQUEST_WIDTH if name == "request" else None,
            justify="right" if name in ("#", "USD") else "left",
            ratio=1 if folded else None,
        )
    for item in items:
        _, state, *rest = _cells(item)
        table.add_row(_key(item), Text(state, style=_style(item)), *(Text(cell) for cell in rest))
    return table


def _narrow_table(items: Iterable[Item], *, gap: int) -> Table:
    """The same in 80 columns: what is long is stacked in the last one, which has room for an id."""
    table = _table(gap, show_lines=True)
    for name in ("key", "state", "age"):
        table.add_column(name, no_wrap=name != "age", overflow="fold", max_width=_AGE_WIDTH if name == "age" else None)
    table.add_column("USD", no_wrap=True, justify="right")
    table.add_column("request, prompt, why", overflow="fold", min_width=_REQUEST_WIDTH, ratio=1)
    for item in items:
        _, state, age, model, request, attempt, usd, prompt, why = _cells(item)
        about = f"{model}, attempt {attempt}" if item.entry.attempt > 1 else model
        lines = Text("\n").join(
            Text(line, style=style)
            for line, style in ((request, "cyan"), (about, ""), (prompt, "italic"), (why, _style(item)))
            if line not in ("", "-")
        )
        table.add_row(_key(item), Text(state, style=_style(item)), age, usd, lines)
    return table


def _table(gap: int, *, show_lines: bool = False) -> Table:
    beside = (0, gap - 1, 0, 0)  # the box itself puts one blank between columns
    return Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=beside, expand=True, show_lines=show_lines
    )


def _key(item: Item) -> Text:
    return Text(item.entry.generation_key[:12], style="bold")


def _style(item: Item) -> str:
    return "bold red" if item.needs_person else _STYLES.get(item.entry.state, "")


def _cells(item: Item) -> tuple[str, ...]:
    entry = item.entry
    return (
        entry.generation_key[:12],
        str(entry.state),
        _age(item.age_seconds),
        entry.model_id.rpartition("/")[2],
        _line(entry.request_id or "-"),
        str(entry.attempt),
        str(item.stake),
        _shortened(_line(item.prompt)),
        _first_sentence(_line(item.advice.happened)),
    )


def _print_lines(console: Console, rows: Sequence[Sequence[str]]) -> None:
    for line in _lines(rows):
        _say(console, line)


def _lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows as lines with aligned columns; a line is as long as it is."""
    widths = [max(cell_len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)


def _wrapped(console: Console, text: str, indent: int = 0) -> str:
    """Break plain words into lines that leave room for an indent, if this is a terminal; commands stay whole."""
    if not console.is_terminal:
        return text
    kept = re.sub("`[^`]*`", lambda command: command[0].replace(" ", "\0"), text)
    width = max(console.width - indent, _NARROWEST)
    return textwrap.fill(kept, width, break_long_words=False, break_on_hyphens=False).replace("\0", " ")


def _age(seconds: float) -> str:
    return naturaldelta(timedelta(seconds=seconds), months=False)


def _time(at: datetime | None) -> str | None:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if at else None


def _line(text: str) -> str:
    """One line of an untrusted text, without control characters."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))


def _text(value: Any) -> Any:
    """The same, keeping its line breaks."""
    return "\n".join(_line(line) for line in value.splitlines()) if isinstance(value, str) else value


def _first_sentence(text: str) -> str:
    """What happened; `show` has the rest."""
    return re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0]


def _shortened(prompt: str) -> str:
    return prompt if len(prompt) <= _PROMPT_LENGTH else f"{prompt[: _PROMPT_LENGTH - 1]}…"
