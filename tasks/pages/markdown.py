"""Texts in artifacts: untrusted ones are shown as they are, and never rendered as Markdown or HTML.

Prefect's pages render the description of every artifact, the data of a markdown artifact and (in the older UI) the
cells of a table artifact as Markdown with HTML. Both UIs of Prefect 3.8 honour backslash escapes (CommonMark 2.4).

The commands of `prefect-runcomfy` on these pages are made here too: those of an advice, and the options that name the
same store.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from blocks import MediaStore
from runcomfy.journal.advice import Advice
from runcomfy.redaction import redact
from runcomfy.storage.commands import StoreOptions

__all__ = ["advised", "bullets", "code", "console", "facts_table", "store_options", "table", "text"]

# What begins or ends emphasis, code, links, entities and HTML. An underscore within a word does nothing.
_SPECIAL = re.compile(r"[\\`*\[\]<>~&]|(?<!\w)_|_(?!\w)")
_ESCAPED_CODE = re.compile(r"\\`(\w+)\\`")


def text(value: object, *, longest: int = 600) -> str:
    """Return a text on one line, without secrets, so that it reads as it is; not meant for the start of a line.

    Args:
        value: The text.
        longest: How many characters of it are shown.
    """
    return _SPECIAL.sub(r"\\\g<0>", _one_line(value, longest))


def code(value: object) -> str:
    """Return an id or a name as inline code; what would end it or its table cell is replaced by a look-alike."""
    plain = _one_line(value, 600).replace("`", "'").replace("|", "¦")
    return f"`{plain}`"


def console(*commands: str) -> str:
    """Return commands as a block to copy from."""
    lines = "\n".join(_one_line(command, 2000).replace("```", "'''") for command in commands)
    return f"```console\n{lines}\n```"


def facts_table(facts: Iterable[tuple[str, str]]) -> str:
    """Return names and values as a table; values are Markdown, and empty ones are left out."""
    rows = ("| {} | {} |".format(name, value.replace("|", "\\|")) for name, value in facts if value)
    return "\n".join(("| | |", "|---|---|", *rows))


def table(names: Sequence[str], rows: Iterable[Sequence[str]], altogether: int) -> str:
    """Return rows below their names, and how many there are where not all are shown.

    Args:
        names: The heading of each column.
        rows: Values in Markdown.
        altogether: How many rows there would be.
    """
    shown = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}", *shown]
    return "\n".join(lines) + _more(len(shown), altogether)


def bullets(lines: Iterable[str], altogether: int) -> str:
    """Return lines as a list, and how many there are where not all are shown.

    Args:
        lines: In Markdown.
        altogether: How many there would be.
    """
    shown = [f"- {line}" for line in lines]
    return "\n".join(shown) + _more(len(shown), altogether)


def _more(shown: int, altogether: int) -> str:
    return f"\n\n{altogether - shown:,} more are not shown." if altogether > shown else ""


def _one_line(value: object, longest: int) -> str:
    line = " ".join(str(redact(str(value))).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def store_options(store: MediaStore) -> StoreOptions:
    """Return the options that name a block's store, its journal and its archive key."""
    named = store.archive_key != MediaStore.model_fields["archive_key"].default
    opened = store.get_store()
    uri = opened.uri(opened.prefix).rstrip("/")
    return StoreOptions(uri, store.journal.strip(), store.archive_key if named else None, opened.settings)


def advised(advice: Advice) -> str:
    """Return what to do now as Markdown; each command is a block of its own, since a block is copied as a whole."""
    now = _ESCAPED_CODE.sub(r"`\1`", text(advice.now))
    return "\n\n".join([now, *(f"{command.does}:\n\n{console(command.shell)}" for command in advice.commands)])
