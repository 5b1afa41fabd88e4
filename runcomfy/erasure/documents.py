"""Take one generation out of files that hold many: results and manifests of batches, records of an inbox, reports."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from runcomfy.erasure.traces import Traces
from runcomfy.extras import needed
from runcomfy.manifest.delimited import read_delimited
from runcomfy.manifest.json_lines import read_json_lines
from runcomfy.manifest.rows import ManifestFormat
from runcomfy.manifest.table import IGNORED, Names, Table, UnreadableTable
from runcomfy.manifest.writing import write_manifest
from runcomfy.models.columns import FIELDS, column_of

__all__ = ["FOLDERS", "NotCleaned", "cleaned", "needs_extra"]

FOLDERS = ("batches/", "inbox/", "reports/")
"""Where such files are, below a store's prefix."""
_AGAIN = "to-run-again."
_WORDY_COLUMNS = ("prompt", "image", "uri", "error")


class NotCleaned(Exception):
    """A file names the generation, and cannot be read as what it should be, so that it is left as it is."""


def needs_extra(name: str) -> None:
    """Make sure, before anything is changed, that a file can be read and written.

    Raises:
        ConfigurationError: what it needs is not installed.
    """
    if name.endswith(".parquet"):
        with needed("parquet", "A Parquet manifest"):
            import runcomfy.manifest.parquet
    elif name.endswith(".xlsx"):
        with needed("excel", "An Excel manifest"):
            import runcomfy.manifest.excel  # noqa: F401


def cleaned(name: str, document: bytes, traces: Traces) -> bytes | None:
    """Return a file without the generation: itself where it has nothing of it, `None` where nothing is left of it.

    Args:
        name: Its key; what the file is follows from that.
        document: Its bytes.
        traces: What the generation is recognised by.

    Raises:
        NotCleaned: it cannot be read, though it names the generation.
    """
    last, extension = name.rpartition("/")[2], name.rpartition(".")[2].lower()
    if last.startswith(_AGAIN):
        return _manifest(document, extension, traces)
    if extension == "html":
        return None if traces.are_on(document) else document
    clean: Callable[[Any, Traces], Any] | None = {"csv": _results, "jsonl": _lines, "json": _object}.get(extension)
    if clean is None:
        return document
    try:
        made: bytes | None = clean(document, traces)
    except (ValueError, csv.Error):  # not one of ours
        return _unread(document, traces)
    return made


def _unread(document: bytes, traces: Traces) -> bytes:
    if traces.are_on(document):
        raise NotCleaned
    return document


def _results(document: bytes, traces: Traces) -> bytes:
    """Blank the words of a batch's table of results; the row stays, with its key and what it cost."""
    rows = list(csv.reader(io.StringIO(document.decode("utf-8"), newline="")))
    if not rows or "generation_key" not in rows[0]:
        return document
    names, changed = rows[0], False
    at = names.index("generation_key")
    for row in rows[1:]:
        if len(row) == len(names) and row[at] == traces.key:
            for column in _WORDY_COLUMNS:
                if column in names and row[names.index(column)]:
                    row[names.index(column)], changed = "", True
        else:
            kept = [
                traces.without_words(cell) if name == "error" else cell for name, cell in zip(names, row, strict=False)
            ]
            changed, row[: len(kept)] = changed or kept != row[: len(kept)], kept
    if not changed:
        return document
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _lines(document: bytes, traces: Traces) -> bytes | None:
    """Take its lines out of the rows of a shard, and its words out of their outcomes."""

    def kept() -> Iterator[tuple[bytes, bytes]]:
        for line in document.splitlines(keepends=True):
            value = json.loads(line) if line.strip() else None
            if isinstance(value, dict) and value.get("generation_key") == traces.key:
                yield line, b""
            elif (new := _described(value, traces)) != value:
                yield line, json.dumps(new, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            else:
                yield line, line

    lines = list(kept())
    return document if all(old == new for old, new in lines) else b"".join(new for _, new in lines) or None


def _object(document: bytes, traces: Traces) -> bytes:
    value = json.loads(document)
    new = _described(value, traces)
    return document if new == value else (json.dumps(new, ensure_ascii=False, indent=2)).encode()


def _described(value: Any, traces: Traces) -> Any:
    """Return a record without its words: of an inbox, of a row's outcome, or what stopped a batch."""
    if not isinstance(value, dict):
        return value
    if value.get("generation_key") == traces.key and "etag" in value:
        return value | {"source": "", "reason": None}
    outcome = value.get("outcome")
    if isinstance(outcome, dict) and outcome.get("generation_key") == traces.key:
        return value | {"outcome": outcome | {"uris": [], "error": None}}
    return traces.without_words(value)


def _manifest(document: bytes, extension: str, traces: Traces) -> bytes | None:
    """Take the rows that ask for it out of a manifest of what is to be run again."""
    if extension not in ("csv", "jsonl", "parquet", "xlsx"):
        return document
    kind: ManifestFormat = extension  # type: ignore[assignment]  # it is one of these
    try:
        table = _table(document, kind, Names((*FIELDS, *map(column_of, traces.inputs))))
    except UnreadableTable:
        return _unread(document, traces)
    rows = [record.values for record in table.records]
    kept = [row for row in rows if not traces.asked_by(row)]
    if len(kept) == len(rows):
        return document
    if not kept:
        return None
    written = [(_without(row), str(row.get("error") or "")) for row in kept]
    columns = [name for name in table.columns if name not in IGNORED]
    return write_manifest(written, columns, kind, delimiter=table.delimiter)


def _without(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in IGNORED}


def _table(document: bytes, kind: ManifestFormat, known: Names) -> Table:
    if kind == "csv":
        return read_delimited(document, known)
    if kind == "jsonl":
        return read_json_lines(document, known)
    if kind == "xlsx":
        from runcomfy.manifest.excel import read_excel

        return read_excel(document, known)
    from runcomfy.manifest.parquet import read_parquet

    return read_parquet(document, known)
