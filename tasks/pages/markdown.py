"""Texts in artifacts: those of strangers are shown as they are, and never obeyed by Prefect's pages.

Prefect's pages render the description of every artifact, the data of a markdown artifact and (in the older UI) the
cells of a table artifact as Markdown with HTML. Both UIs of Prefect 3.8 take a backslash before punctuation for what
CommonMark says that it is (2.4, Backslash escapes).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from runcomfy.redaction import redact

__all__ = ["code", "console", "facts_table", "text"]

# What begins or ends emphasis, code, links, entities and HTML. An underscore within a word does nothing.
_OBEYED = re.compile(r"[\\`*\[\]<>~&]|(?<!\w)_|_(?!\w)")


def text(value: object, *, longest: int = 600) -> str:
    """Return a text on one line, without secrets, so that it reads as it is; not meant for the start of a line.

    Args:
        value: The text.
        longest: How many characters of it are shown.
    """
    return _OBEYED.sub(r"\\\g<0>", _one_line(value, longest))


def code(value: object) -> str:
    """Return an id or a name as inline code; what would end it or its cell is replaced by what looks like it."""
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


def _one_line(value: object, longest: int) -> str:
    line = " ".join(str(redact(str(value))).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
