"""Excel: the first sheet of a workbook, as values; it needs the extra `excel`.

openpyxl reads row by row and gives up where a file is damaged. calamine is faster, but ends the whole process for 5 kB
in which a cell is far from the others (a table of 2^34 cells).
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, dropwhile, islice
from typing import Any

from openpyxl import Workbook, load_workbook  # type: ignore[import-untyped]  # it comes without types
from openpyxl.cell import WriteOnlyCell  # type: ignore[import-untyped]
from openpyxl.utils.escape import unescape  # type: ignore[import-untyped]

from runcomfy.manifest.header import LOOKED_AT, find_header, names_of, without_index
from runcomfy.manifest.table import (
    COMMENT,
    MAX_COLUMNS,
    MAX_TEXT_BYTES,
    TYPED,
    Names,
    RawRow,
    Table,
    UnreadableTable,
    check_length,
    shown,
)

__all__ = ["read_excel", "write_excel"]

_MAX_TAGS, _MAX_ATTRIBUTES = 3_000_000, 6_000_000  # about 300 and 100 bytes of memory each, if none is let go
_CHUNK_BYTES = 1_000_000
_MAX_CELLS = 20_000_000  # openpyxl makes those that a row leaves out
_MAX_SHEET_ROWS = 1_048_576  # Excel's own limit
_MAX_CELL_CHARACTERS = 32_767  # likewise
_EXACT_BELOW = 10**15  # Excel keeps fifteen digits
_FORMULA_TAG = re.compile(rb"[<:]f[\s/>]")
_LONGEST_TAG = 3
_ENCODING = re.compile(rb"""encoding\s*=\s*["'](?!utf-8|utf-16|us-ascii)""", re.IGNORECASE)
_DECLARATION = re.compile(rb"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
# What XML cannot hold, or an editor would read as that, as ECMA-376 part 1, 22.9.2.19 (ST_Xstring) writes it.
_ESCAPED = re.compile(r"[\x00-\x08\x0b-\x1f]|_(?=x[0-9A-Fa-f]{4}_)")
_STRICT = b"http://purl.oclc.org/ooxml/"  # ECMA-376 part 1, and not part 4, which Excel writes by default
_OTHER_ARCHIVES = (
    ("word/", "a Word document"), ("ppt/", "a presentation"), ("content.xml", "an OpenDocument file (LibreOffice)"),
    ("Index/", "an Apple Numbers, Pages or Keynote file"),
)  # fmt: skip
# Of what it does not keep (validation lists, extensions): nothing that is read here.
warnings.filterwarnings("ignore", category=UserWarning, module=r"openpyxl\.")


def read_excel(data: bytes, known: Names = TYPED) -> Table:
    """Read the first visible sheet of a workbook; formulas count as what they gave when it was saved.

    Args:
        data: The whole file.
        known: What columns may be called.

    Raises:
        UnreadableTable: It is damaged, too large, or has no usable header, or no rows.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            has_formulas = _check_size(archive)
            _check_is_workbook(archive)
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        sheet = next((sheet for sheet in book.worksheets if _has_rows(sheet)), None)
        if sheet is None:
            raise UnreadableTable("has no sheet with cells. Save the sheet with the rows as the first.")
        sheet.reset_dimensions()  # what the file says of its size is not always true
        with _about(book, sheet.title):
            return _table(_rows(_values(sheet, data, has_formulas=has_formulas)), known)
    except (UnreadableTable, MemoryError):
        raise
    except Exception as error:  # a damaged workbook makes openpyxl raise whatever its code runs into
        if "out of memory" in str(error):  # as expat says it
            raise MemoryError from None
        reason = "it is not a ZIP archive" if isinstance(error, zipfile.BadZipFile) else "a part of it is damaged"
        raise UnreadableTable(
            f"cannot be read as an Excel file: {reason}. Open it in Excel and save it again, or as 'CSV UTF-8'."
        ) from None


def _has_rows(sheet: Any) -> bool:
    return sheet.sheet_state == "visible" and hasattr(sheet, "iter_rows")  # a sheet may be a chart


@contextmanager
def _about(book: Any, title: str) -> Iterator[None]:
    """Say which sheet was read, where there are others that may be meant."""
    try:
        yield
    except UnreadableTable as error:
        others = shown(", ".join(sheet.title for sheet in book.worksheets if sheet.title != title))
        if len(book.worksheets) == 1:
            raise
        raise UnreadableTable(
            f"{error} Its first visible sheet was read, {shown(title)}; if another is meant ({others}), move it to the "
            "front."
        ) from None


def _check_is_workbook(archive: zipfile.ZipFile) -> None:
    """Refuse other archives, and a form of workbook that openpyxl does not read.

    Raises:
        UnreadableTable: It is none.
    """
    names = archive.namelist()
    if "xl/workbook.xml" in names and _STRICT in archive.read("xl/workbook.xml"):
        raise UnreadableTable("is a Strict Open XML workbook. In Excel, save it as 'Excel Workbook (*.xlsx)'.")
    for start, what in _OTHER_ARCHIVES:
        if any(name.startswith(start) for name in names):
            raise UnreadableTable(f"is not an Excel file, as its name says, but {what}. Save it as .xlsx or .csv.")
    if "[Content_Types].xml" not in names:  # it says where the workbook is, which is not always in xl/
        raise UnreadableTable("is not an Excel file, as its name says, but another ZIP archive. Unpack it first.")


def write_excel(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    """Write a workbook of one sheet; no text in it is a formula, and no number has lost digits."""
    book = Workbook(write_only=True)
    sheet = book.create_sheet("rows")
    sheet.append(list(columns))
    for row in rows:
        sheet.append([_cell(sheet, row.get(name)) for name in columns])
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _check_size(archive: zipfile.ZipFile) -> bool:
    """Make sure that the parts can be held in memory: openpyxl builds trees of them; return if one has formulas."""
    parts = archive.infolist()
    if sum(part.file_size for part in parts) > MAX_TEXT_BYTES:  # nothing reads further than a part says
        raise UnreadableTable(f"has more than {MAX_TEXT_BYTES:,} bytes when it is unpacked. Save it as 'CSV UTF-8'.")
    tags = attributes = 0
    has_formulas = False
    for part in parts:
        with archive.open(part) as file:
            start, end = True, b""
            while chunk := file.read(_CHUNK_BYTES):
                plain = chunk.replace(b"\0", b"")  # as if UTF-16 were UTF-8
                if _DECLARATION.search(plain) or (start and _ENCODING.search(plain[:200])):
                    raise UnreadableTable("has XML in it that Excel does not write. Save it again in Excel.")
                start = False
                has_formulas = has_formulas or _FORMULA_TAG.search(end + plain) is not None
                end = plain[-_LONGEST_TAG:]
                tags += plain.count(b"<")
                attributes += plain.count(b"=")
                if tags > _MAX_TAGS or attributes > _MAX_ATTRIBUTES:
                    raise UnreadableTable("has too many cells for an Excel file. Save it as 'CSV UTF-8'.")
    return has_formulas


class _Formula:
    """A formula whose value is not in the file: a program wrote it, and no spreadsheet has computed it since."""

    def __str__(self) -> str:
        return ""


_UNCOMPUTED = _Formula()


def _values(sheet: Any, data: bytes, *, has_formulas: bool) -> Iterator[Sequence[Any]]:
    """Yield the rows of a sheet as values, and a mark where a formula has none; one that gave an empty text has one."""
    if not has_formulas:
        yield from sheet.iter_rows(values_only=True)
        return
    written = load_workbook(io.BytesIO(data), read_only=True, keep_links=False)[sheet.title]
    written.reset_dimensions()
    for cells, formulas in zip(sheet.iter_rows(), written.iter_rows(values_only=True), strict=False):
        yield [
            _UNCOMPUTED if cell.value is None and cell.data_type == "n" and formula is not None else cell.value
            for cell, formula in zip(cells, formulas, strict=False)
        ]


def _rows(sheet_rows: Iterator[Sequence[Any]]) -> Iterator[tuple[int, list[Any]]]:
    """Yield the rows that are not blank with their numbers, as JSON-able values."""
    cells = characters = 0
    for line, row in enumerate(sheet_rows, 1):
        cells += len(row)
        if line > _MAX_SHEET_ROWS or cells > _MAX_CELLS:
            raise UnreadableTable("has more cells than a manifest can use. Save it as 'CSV UTF-8'.")
        if not any(cell is not None for cell in row):
            continue
        if any(cell is not None for cell in row[MAX_COLUMNS:]):
            raise UnreadableTable(f"has more than {MAX_COLUMNS:,} columns. Take out those that are not for a manifest.")
        values = [_value(cell) for cell in row[:MAX_COLUMNS]]
        characters += sum(len(value) for value in values if isinstance(value, str))
        if characters > MAX_TEXT_BYTES:
            raise UnreadableTable(f"has texts of more than {MAX_TEXT_BYTES:,} characters together. Split it.")
        yield line, values


def _table(rows: Iterator[tuple[int, list[Any]]], known: Names) -> Table:
    rows = dropwhile(lambda row: isinstance(row[1][0], str) and bool(COMMENT.match(row[1][0])), rows)
    first = list(islice(rows, LOOKED_AT))
    texts = [(line, ["" if cell is None else str(cell) for cell in cells]) for line, cells in first]
    place = find_header(texts, known, place="row") or 0
    header_line, header = texts[place] if texts else (1, [])
    names = names_of(header, known)
    records: list[RawRow] = []
    for line, cells in chain(first[place + 1 :], rows):
        records += _record(line, cells, names, known)
        check_length(len(records) or 1)
    check_length(len(records))
    return Table(without_index(dict.fromkeys(names, header_line), records), records)


def _record(line: int, cells: Sequence[Any], names: Sequence[str], known: Names) -> Iterator[RawRow]:
    """Yield the record; nothing where it is blank."""
    cells = [
        None if cell is _UNCOMPUTED and (at >= len(names) or names[at] not in known) else cell
        for at, cell in enumerate(cells)
    ]
    if all(cell is None or (isinstance(cell, str) and not cell.strip()) for cell in cells):
        return
    values = dict(zip(names, cells, strict=False))
    beyond = next((number for number, cell in enumerate(cells, 1) if number > len(names) and cell is not None), 0)
    if beyond:
        yield RawRow(line, {}, f"it has something in column {beyond}, which has no name; name it, or take it out")
        return
    for name, value in values.items():
        if value is _UNCOMPUTED:
            yield RawRow(
                line,
                {},
                f"{name}: it is a formula without a value: no spreadsheet has computed it since a program wrote it. "
                "Open the file in Excel or LibreOffice, and save it; or write what it comes to",
            )
            return
        if name in known and isinstance(value, int | float) and abs(value) >= _EXACT_BELOW:
            yield RawRow(
                line,
                {},
                f"{name}: {shown(str(value))} may have been rounded: Excel keeps fifteen digits. Format the column as "
                "text, and write the number again",
            )
            return
    yield RawRow(line, values)


def _value(cell: Any) -> Any:
    """Return a cell as JSON has it: dates become texts, whole numbers integers."""
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    if cell is None or isinstance(cell, bool | int | float | _Formula):
        return cell
    return unescape(cell) if isinstance(cell, str) else str(cell)


def _cell(sheet: Any, value: Any) -> Any:
    if value is None or isinstance(value, bool) or (isinstance(value, int | float) and abs(value) < _EXACT_BELOW):
        return value
    text = _ESCAPED.sub(lambda found: f"_x{ord(found[0]):04X}_", str(value))
    cell = WriteOnlyCell(sheet, value=text[:_MAX_CELL_CHARACTERS])
    cell.data_type = "s"  # whatever it begins with: it would take =A1 for a formula and #N/A for an error
    return cell
