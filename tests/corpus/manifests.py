"""Good and bad manifests: what people and programs write, and what is made to do harm. A new example is one line.

`python -m tests.corpus.manifests FOLDER` writes them as files, and prints what is said of each.
"""

from __future__ import annotations

import gzip
import io
import json
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl  # type: ignore[import-untyped]  # it comes without types
import pandas as pd  # type: ignore[import-untyped]
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

__all__ = ["EXAMPLES", "Example", "parquet", "repacked", "workbook"]


@dataclass(frozen=True)
class Example:
    """A file, how many of its rows are good (`None`: it is refused as a whole), and what is said of the others.

    `slow`: to make or to read it takes more than a moment.
    """

    name: str
    data: Callable[[], bytes]
    good: int | None
    words: str = ""
    slow: bool = False


def text(written: str, encoding: str = "utf-8") -> Callable[[], bytes]:
    return lambda: written.encode(encoding)


def parquet(columns: Mapping[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), file, **options)
    return file.getvalue()


def workbook(rows: Sequence[Sequence[Any]], cells: Mapping[str, Any] | None = None) -> bytes:
    """Return an Excel file whose first sheet has these rows; further cells, such as a formula, by their names."""
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(list(row))
    for place, value in (cells or {}).items():
        book.active[place] = value
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def repacked(data: bytes, change: Callable[[str, bytes], bytes], folder: str = "xl/") -> bytes:
    """Return an Excel file each of whose parts was changed, and whose workbook is in another folder."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name.replace("xl/", folder, 1), change(name, old.read(name)))
    return file.getvalue()


def in_sheet(old: bytes, new: bytes) -> Callable[[], bytes]:
    return lambda: repacked(SHEET, lambda name, part: part.replace(old, new, 1) if "sheet1" in name else part)


def sheets(**rows: Sequence[Sequence[Any]]) -> bytes:
    """Return an Excel file with a sheet of each name."""
    book, file = openpyxl.Workbook(write_only=True), io.BytesIO()
    for name, lines in rows.items():
        sheet = book.create_sheet(name)
        for line in lines:
            sheet.append(list(line))
    book.save(file)
    return file.getvalue()


def zipped(*names: str) -> Callable[[], bytes]:
    def data() -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name in names:
                archive.writestr(name, "<a/>")
        return file.getvalue()

    return data


def of_bytes(start: bytes) -> Callable[[], bytes]:
    return lambda: start + bytes(600)


def same(value: str, count: int) -> pa.DictionaryArray:
    """Return a column of one value; a list of them would take its memory as often."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([value]))


def of_pandas(write: Callable[[pd.DataFrame, io.BytesIO], Any], *, filtered: bool = False) -> Callable[[], bytes]:
    def data() -> bytes:
        frame = pd.DataFrame({"prompt": ["A cat", "A dog", "A fox"], "seed": [7, 8, 9]})
        file = io.BytesIO()
        write(frame[frame["seed"] != 8] if filtered else frame, file)
        return file.getvalue()

    return data


SHEET = workbook([["prompt", "seed"], ["A cat", 7]])
LONG = "a" * 70_000
NO_INDEX = (
    "Name it, or take it out; if it is the index of a data frame, write the file without it (in pandas: index=False)"
)
TRANSITIONAL = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
STRICT = b"http://purl.oclc.org/ooxml/spreadsheetml/main"
HEADER = "prompt,seed\n"
COLUMN = "has a column without a name: number 1. " + NO_INDEX
TITLE = "has its header in line 2, and line 1 looks like a title. Take out what is above the header."
TEXTS = "has texts of more than 100,000,000 bytes together. Split it."
PACKED = "has more than 100,000,000 bytes when it is unpacked"
NOT_CSV = "is not a CSV file, as its name says, but "

EXAMPLES = [
    # what pandas calls an index
    Example("index.csv", text(",prompt,seed\n0,A cat,7\n1,A dog,8\n"), 2),
    Example("index_of_r.csv", text('"","prompt","seed"\n"1","A cat",7\n"2","A dog",8\n'), 2),
    Example("index_of_pandas.csv", of_pandas(lambda frame, file: frame.to_csv(file)), 3),
    Example("index_filtered.csv", of_pandas(lambda frame, file: frame.to_csv(file), filtered=True), None, COLUMN),
    Example("index_read_back.csv", text("Unnamed: 0,prompt\n0,A cat\n7,A dog\n"), 2),
    Example("index_twice.csv", text("Unnamed: 0.1,Unnamed: 0,prompt\n0,0,A cat\n1,7,A dog\n"), 2),
    Example("index_reset.csv", text("index,level_0,prompt\n0,1,A cat\n1,2,A dog\n"), 2),
    Example("index_of_letters.csv", text(",prompt\na,A cat\nb,A dog\n"), None, COLUMN),
    Example("index_of_seeds.csv", text(",prompt\n417,A cat\n98,A dog\n"), None, COLUMN),
    Example("index_of_seeds_read_back.csv", text("Unnamed: 0,prompt\n4,A cat\n4,A dog\n"), 0, "Unnamed: 0: there is no"),
    Example("index.parquet", of_pandas(lambda frame, file: frame.to_parquet(file)), 3),
    Example("index_filtered.parquet", of_pandas(lambda frame, file: frame.to_parquet(file), filtered=True), 2),
    Example("index_of_texts.parquet", lambda: parquet({"prompt": ["A cat"], "__index_level_0__": ["a"]}), 1),
    Example("index_reset.parquet", lambda: parquet({"prompt": ["A cat"], "index": [0]}), 1),
    Example("index_of_texts_reset.parquet", lambda: parquet({"prompt": ["A cat"], "index": ["a"]}), 0, "index: there is"),
    Example("index.jsonl", text('{"index": 0, "prompt": "A cat"}\n{"index": 1, "prompt": "A dog"}\n'), 2),
    Example("index_of_jsonl.jsonl", text('{"index": 5, "prompt": "A cat"}\n'), 0, "index: there is no such field"),
    Example("index.xlsx", of_pandas(lambda frame, file: frame.to_excel(file)), 3),
    Example("index_filtered.xlsx", of_pandas(lambda frame, file: frame.to_excel(file), filtered=True), None, COLUMN),
    # headers
    Example("separator.csv", text("sep=;\nprompt;seed;resolution\nA cat;7;720p\n"), 1),
    Example("separator_quoted.csv", text('"sep=;"\r\nprompt;seed\r\nA cat;7\r\n'), 1),
    Example("separator_tab.csv", text("\ufeffSEP=\t\nprompt\tseed\nA cat, sleeping\t7\n"), 1),
    Example("separator_only.csv", text("sep=;\n"), None, "has no header"),
    Example("bars.csv", text("prompt|seed\nA cat|7\n"), 1),
    Example("tabs.tsv", text("prompt\tseed\nA cat\t7\n"), 1),
    Example("capitals.csv", text("Prompt,Seed,Resolution\nA cat,7,720p\n"), 1),
    Example("titles.csv", text("PROMPT,Num Frames,frames-per-second\nA cat,81,16\n"), 1),
    Example("full_width.csv", text("Ｐｒｏｍｐｔ,seed\nA cat,7\n"), 1),  # noqa: RUF001
    Example("capitals.jsonl", text('{"Prompt": "A cat", "Num Frames": 81}\n'), 1),
    Example("capitals.parquet", lambda: parquet({"Prompt": ["A cat"], "SEED": [7]}), 1),
    Example("capitals.xlsx", lambda: workbook([["Prompt", "Num frames"], ["A cat", 81]]), 1),
    Example("twice.csv", text("prompt,Prompt\nA cat,A dog\n"), None, "has more than one column prompt. Keep one"),
    Example("twice.jsonl", text('{"prompt": "A cat", "Prompt": "A dog"}\n'), 0, "prompt is given twice"),
    Example("title.csv", text("My shots,,\nprompt,seed,resolution\nA cat,7,720p\n"), None, TITLE),
    Example("title_is_a_name.csv", text("Prompt,,\nprompt,seed,resolution\nA cat,7,720p\n"), None, TITLE),
    Example("title_and_blank.csv", text("Shots of May\n\nprompt\nA cat\n"), None, "in line 3, and line 1 looks like"),
    Example("title.xlsx", lambda: workbook([["My shots"], ["prompt"], ["A cat"]]), None, "in row 2, and row 1 looks"),
    Example("blank_first.csv", text("\nprompt,seed\nA cat,7\n"), 1),
    Example("blank_first_cells.csv", text(",,\n,,\nprompt,seed,\nA cat,7,\n"), 1),
    Example("blank_first.xlsx", lambda: workbook([[], [], ["prompt"], ["A cat"]]), 1),
    Example("blank_column.csv", text("prompt,,seed\nA cat,,7\n"), 1),
    Example("blank_column_used.csv", text("prompt,,seed\nA cat,x,7\n"), None, "without a name: number 2. Name it"),
    Example("other_separator.csv", text('"prompt";"seed";"note, internal"\n"A cat";"7";""\n'), 0, "note, internal: there"),
    Example("other_separator_known.csv", text('"prompt";"seed"\n"A cat, a dog";"7"\n'), 1),
    Example("results.csv", text("line,status,request_id,generation_key,prompt\n2,failed,,k,A cat\n"), None, "to-run-again"),
    # encodings
    Example("utf_16.csv", text("prompt\tseed\nSchnee fällt\t7\n", "utf-16"), 1),
    Example("utf_16_be.csv", text("\ufeffprompt,seed\nSchnee fällt,7\n", "utf-16-be"), 1),
    Example("utf_16_unmarked.csv", text("prompt,seed\nSchnee fällt,7\n", "utf-16-le"), 1),
    Example("utf_16.jsonl", text('{"prompt": "Schnee fällt"}\n', "utf-16"), 1),
    Example("utf_16_unmarked.jsonl", text('{"prompt": "Schnee fällt"}\n', "utf-16-be"), 1),
    Example("utf_32.csv", text("prompt,seed\nSchnee fällt,7\n", "utf-32"), 1),
    Example("marked.csv", text("prompt,seed\nSchnee fällt,7\n", "utf-8-sig"), 1),
    Example("marked_twice.csv", text("\ufeff\ufeffprompt,seed\nSchnee fällt,7\n"), 1),
    Example("marked_twice.jsonl", text('\ufeff\ufeff{"prompt": "Schnee fällt"}\n'), 1),
    Example("marked_quoted.csv", text('\ufeff"prompt","seed"\nSchnee fällt,7\n'), 1),
    Example("utf_16_cut.csv", lambda: "prompt\nA cat\n".encode("utf-16")[:-1], None, "is not UTF-16 text (line 2)"),
    Example("latin_1.csv", text("prompt\nSchnee fällt\n", "latin-1"), None, "is not UTF-8 text (line 2). Save it as UTF-8"),
    # other files under these names
    Example("excel.csv", lambda: SHEET, None, NOT_CSV + "an Excel file or another ZIP archive. Name an Excel file .xlsx"),
    Example("old_excel.csv", lambda: bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), None, "a spreadsheet of old Excel"),
    Example("old_excel.xlsx", lambda: bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), None, "or one with a password"),
    Example("packed.csv", lambda: gzip.compress(b"prompt\nA cat\n"), None, NOT_CSV + "packed (gzip). Unpack it first"),
    Example("parquet.csv", lambda: parquet({"prompt": ["A cat"]}), None, NOT_CSV + "a Parquet file. Name it .parquet"),
    Example("csv.parquet", text("prompt\nA cat\n"), None, "is not a Parquet file, as its name says, but plain text"),
    Example("csv.xlsx", text("prompt\nA cat\n"), None, "is not an Excel file, as its name says, but plain text"),
    Example("page.csv", text("<!DOCTYPE html><html><p>Sign in</p></html>"), None, NOT_CSV + "an HTML page"),
    Example("page.jsonl", text("<html>\n<p>Sign in\n"), None, "but an HTML page: an error page, perhaps"),
    Example("error.jsonl", text("<?xml version='1.0'?><Error/>"), None, "but an XML document"),
    Example("csv.jsonl", text("prompt,seed\nA cat,7\n"), None, "but plain text. Name it .csv if it is that"),
    Example("yaml.jsonl", text("- prompt: A cat\n"), 0, "it is not JSON: Expecting value at column 1"),
    Example("pointer.jsonl", text("version https://git-lfs.github.com/spec/v1\noid\n"), None, "Run `git lfs pull`"),
    *(Example(f"{name}.csv", of_bytes(start), None, words) for name, start, words in (
        ("xz", b"\xfd7zXZ\0", "packed (xz)"), ("seven_zip", b"7z\xbc\xaf\x27\x1c", "packed"), ("rar", b"Rar!\x1a\7", "packed (RAR)"),
        ("lz4", b"\4\x22\x4d\x18", "packed (LZ4)"), ("png", b"\x89PNG\r\n\x1a\n", "an image"), ("mp3", b"ID3\4", "a sound"),
        ("mp4", b"\0\0\0\x18ftypisom", "a video"), ("avro", b"Obj\1", "an Avro file"), ("orc", b"ORC", "an ORC file"),
        ("pickle", b"\x80\4\x95", "pickled"), ("pgp", b"-----BEGIN PGP MESSAGE", "an encrypted file"), ("rtf", b"{\\rtf1", "RTF"),
        ("exe", b"MZ\x90\0", "a program"), ("zeros", b"", "zero bytes"), ("tar", b"a" * 257 + b"ustar\0", "packed"))),
    Example("part_of_a_page.csv", text("<table><tr><td>prompt</td></tr></table>"), None, "but an HTML page"),
    Example("document.xlsx", zipped("word/document.xml"), None, "but a Word document"),
    Example("open_document.xlsx", zipped("mimetype", "content.xml"), None, "but an OpenDocument file"),
    Example("apple.xlsx", zipped("Index/Document.iwa"), None, "but an Apple Numbers"),
    Example("zipped.xlsx", zipped("rows.csv"), None, "but another ZIP archive. Unpack it first"),
    Example("elsewhere.xlsx", lambda: repacked(SHEET, lambda _, part: part.replace(b"/xl/", b"/sheets/"), "sheets/"), 1),
    Example("strict.xlsx", lambda: repacked(SHEET, lambda _, part: part.replace(TRANSITIONAL, STRICT)), None, "a Strict Open XML"),
    Example("other_sheet.xlsx", lambda: sheets(notes=[["read me"]], rows=[["prompt"], ["A cat"]]), None,
            "Its first visible sheet was read, notes; if another is meant (rows), move it"),
    Example("two_sheets.xlsx", lambda: sheets(rows=[["prompt"], ["A cat"]], more=[["prompt"], ["A dog"]]), 1),
    Example("encrypted.parquet", lambda: b"PARE" + bytes(99) + b"PARE", None, "it is encrypted. Write it without encryption"),
    Example("cut.parquet", lambda: parquet({"prompt": ["A cat"]})[:-9], None, "it does not begin and end as one"),
    Example("rows.tab", text("prompt\nA cat\n"), None, "Name it .csv or .tsv"),
    # lines and cells
    *(Example(f"{name}.csv", text(f"prompt,seed{end}A cat,7{end}A dog,8{end}"), 2) for name, end in (
        ("cr", "\r"), ("cr_cr_lf", "\r\r\n"), ("crlf", "\r\n"))),
    Example("lines_mixed.csv", text("prompt,seed\nA cat,7\r\nA dog,8\rA fox,9"), 3),
    Example("comments_only.jsonl", text("# prompt: a text\n# seed: a number\n"), None, "has no rows"),
    Example("nul.csv", text("prompt\nA c\0at\n"), 0, "NUL"),
    Example("escape.csv", text("prompt\n\x1b[31mred\n"), 0, "control character U+001B"),
    Example("quote_open.csv", text('prompt,seed\n"A cat,7\n'), 0, "is opened here and never closed"),
    Example("backslash.csv", text('prompt,seed\n"A \\"big\\" cat",7\n'), 0, "its quotes do not match"),
    Example("one_column.csv", text("prompt\nA cat, sleeping\n"), 0, "it has 2 cells for 1 column;"),
    Example("ragged_short.csv", text("prompt,seed,resolution\nA cat\n"), 1),
    Example("ragged_long.csv", text("prompt,seed\nA cat,7,x\n"), 0, "it has 3 cells for 2 columns"),
    *(Example(f"seed_{number}.csv", text(f'prompt,seed\nA cat,"{written}"\n'), 0, words) for number, (written, words) in enumerate((
        ("1,000", "separators between them"), ("1.000", "separators"), ("1 000", "separators"), ("1_000", "separators"),
        ("1e3", "digits may be lost"), ("1.23457E+11", "digits may be lost"), ("7.5", "whole number"), ("0x7", "whole number"),
        ("007", "whole number"), ("+7", "whole number"), ("inf", "whole number"), ("NA", "whole number"), ("TRUE", "whole number"),
        ("2026-05-01", "whole number"), ("\u0667", "whole number")))),
    *(Example(f"not_a_prompt_{number}.csv", text(f'prompt,seed\n"{written}",7\n'), 0, "it is not a prompt") for number, written in
      enumerate(("nan", "None", "NULL", "#N/A", "#DIV/0!", "#NAME?", "TRUE", "12345", "2026-05-01", "-", "n/a"))),
    Example("invisible.csv", text("prompt,seed\n\u200b,7\n"), 0, "it says nothing"),
    *(Example(f"{name}.jsonl", text(written), good, words) for name, written, good, words in (
        ("not_a_number", '{"prompt": "a", "seed": NaN}', 0, "NaN is not a JSON value"),
        ("infinite", '{"prompt": "a", "seed": Infinity}', 0, "Infinity is not"),
        ("name_twice", '{"prompt": "a", "prompt": "b"}', 0, "prompt is given twice"),
        ("big_number", '{"prompt": "a", "seed": 123456789012345678901234567890}', 1, ""),
        ("comma", '{"prompt": "a",}', 0, "it is not JSON"), ("commas", '{"prompt": "a"},\n{"prompt": "b"},\n', None, "is not JSON Lines"),
        ("single_quotes", "{'prompt': 'a'}", 0, "it is not JSON"), ("python", '{"prompt": "a", "seed": None}', 0, "not JSON"),
        ("two_in_a_line", '{"prompt": "a"}{"prompt": "b"}', 0, "Extra data at column"), ("text", '"a"', 0, "not an object"),
        ("null", "null", 0, "it is not an object"), ("half", '{"prompt": "\\ud800"}', 0, "half a character"),
        ("wrapped", '{"rows": [{"prompt": "a"}]}', 0, "rows: there is no such field"), ("list", '{"prompt": ["a"]}', 0, "a list"),
        ("truth_as_seed", '{"prompt": "a", "seed": true}', 0, "whole number"), ("cut", '{"prompt": "a"}\n{"prom', 1, "not JSON"),
        ("tab", '{"prompt": "a\tb"}', 0, "Invalid control character at column"))),
    *(Example(f"{name}.parquet", lambda column=column: parquet(column), good, words) for name, column, good, words in (
        ("dictionary", {"prompt": pa.array(["A cat"]).dictionary_encode()}, 1, ""),
        ("view", {"prompt": pa.array(["A cat"], pa.string_view())}, 1, ""),
        ("large_string", {"prompt": pa.array(["A cat"], pa.large_string())}, 1, ""),
        ("decimal", {"prompt": ["A cat"], "seed": pa.array([Decimal(7)], pa.decimal128(10, 0))}, 1, ""),
        ("half", {"prompt": ["A cat"], "seed": pa.array([Decimal("7.5")], pa.decimal128(10, 1))}, 0, "whole number"),
        ("missing_numbers", {"prompt": ["A cat", "A dog"], "seed": [7.0, float("nan")]}, 2, ""),
        ("nulls", {"prompt": ["A cat", None], "seed": [7, None]}, 1, "prompt: it is missing"),
        ("null_column", {"prompt": ["A cat"], "seed": pa.array([None], pa.null())}, 1, ""),
        ("no_rows", {"prompt": pa.array([], pa.string())}, None, "has no rows"), ("no_columns", {}, None, "has no header"),
        ("time", {"prompt": ["A cat"], "seed": pa.array([2**62], pa.timestamp("us"))}, None, "of the type timestamp[us]"),
        ("day", {"prompt": ["A cat"], "seed": pa.array([2**30], pa.date32())}, None, "of the type date32"),
        ("lists", {"prompt": [["A cat"]]}, None, "of the type list"), ("bytes", {"prompt": [b"A cat"]}, None, "of the type binary"),
        ("struct", {"prompt": ["A cat"], "image": [{"bytes": b"x", "path": None}]}, None, "of the type struct"))),
    Example("xml.xlsx", text("<Error><Code>AccessDenied</Code></Error>"), None, "but an XML document"),
    Example("json.csv", text('[{"prompt": "A cat"}]'), None, NOT_CSV + "JSON. Write one object a line as .jsonl"),
    Example("array.jsonl", text('[\n {"prompt": "A cat"},\n {"prompt": "A dog"}\n]'), None, "is not JSON Lines"),
    Example("pretty.jsonl", text(json.dumps({"prompt": "A cat"}, indent=1)), None, "is not JSON Lines"),
    Example("array_of_one_line.jsonl", text('[{"prompt": "A cat"}]'), 0, "it is not an object; write one object a line"),
    Example("pointer.csv", text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), None, "Run `git lfs pull`"),
    Example("rows.json", text('{"prompt": "A cat"}'), None, "is JSON, not JSON Lines. Write one object a line as .jsonl"),
    Example("rows.ods", lambda: b"PK", None, "is a spreadsheet of a kind that is not read. In the program that made it"),
    Example("rows.csv.gz", lambda: b"\x1f\x8b", None, "is packed. Unpack it first"),
    Example("rows.txt", text("prompt\nA cat\n"), None, "may be a manifest, but its extension does not say so"),
    Example("rows.feather", lambda: b"ARROW1", None, "is a table of a kind that is not read. Write it as .parquet"),
    # Excel
    Example("numbers.xlsx", lambda: workbook([["prompt", "seed"], ["A cat", 7.0], ["A dog", 10**15 - 1]]), 2),
    Example("long_number.xlsx", lambda: workbook([["prompt", "seed"], ["A cat", 10**15]]), 0, "Excel keeps fifteen digits"),
    Example("number_as_text.xlsx", lambda: workbook([["prompt", "seed"], ["A cat", "12345678901234567890"]]), 1),
    Example("error.xlsx", lambda: workbook([["prompt"], ["#REF!"]]), 0, "it is not a prompt, but what programs write"),
    Example("date.xlsx", lambda: workbook([["prompt", "seed"], ["A cat", pd.Timestamp("2026-05-01")]]), 0, "whole number"),
    Example("number.xlsx", lambda: workbook([["prompt"], [7]]), 0, "prompt: it is not a text; write it as one"),
    Example("truth.xlsx", lambda: workbook([["prompt", "enable_prompt_expansion"], ["A cat", True]]), 1),
    Example("formula.xlsx", lambda: workbook([["prompt", "seed"]], {"A2": '="A "&"cat"', "B2": 7}), 0, "prompt: it is a formula without a value"),
    Example("formula_of_a_seed.xlsx", lambda: workbook([["prompt", "seed"]], {"A2": "A cat", "B2": "=6+1"}), 0, "seed: it is a formula without a value"),
    Example("formula_aside.xlsx", lambda: workbook([["prompt", "seed"]], {"A2": "A cat", "B2": 7, "D2": "=6+1"}), 1),
    Example("formula_of_nothing.xlsx", lambda: repacked(workbook([["prompt"]], {"A2": "A cat", "A3": "=1"}), lambda _, part: part.replace(b'<c r="A3"><f>1</f><v /></c>', b'<c r="A3" t="str"><f>1</f><v></v></c>').replace(b'<c r="A3"><f>1</f><v/></c>', b'<c r="A3" t="str"><f>1</f><v></v></c>')), 1),
    Example("comment.xlsx", lambda: workbook([["prompt"], ["A cat", "too dark?"]]), 0, "it has something in column 2"),
    Example("far_cell.xlsx", lambda: workbook([["prompt"], ["A cat"]], {"A1048576": "A dog"}), 2, slow=True),
    Example("farther_row.xlsx", in_sheet(b'<row r="2"', b'<row r="99999999999"'), None, "has more cells than a manifest can use"),
    Example("wrong_size.xlsx", in_sheet(b'ref="A1:B2"', b'ref="A1:A1"'), 1),
    Example("escaped.xlsx", lambda: workbook([["prompt"], ["A cat_x000D_\nsits"]]), 1),
    Example("no_rows.xlsx", lambda: workbook([["prompt", "seed"]]), None, "has no rows"),
    Example("no_cells.xlsx", lambda: workbook([]), None, "has no header"),
    Example("cut.xlsx", lambda: SHEET[:-40], None, "cannot be read as an Excel file: it is not a ZIP archive"),
    Example("damaged.xlsx", in_sheet(b"<sheetData>", b"<sheetData><"), None, "a part of it is damaged. Open it in Excel"),
    Example("archive.xlsx", lambda: repacked(SHEET, lambda name, part: b""), None, "a part of it is damaged"),
    # small files that unpack to much, or nest deeply
    Example("same_text.parquet", lambda: parquet({"prompt": same(LONG, 100_000)}, store_schema=False), None, TEXTS),
    Example("same_text_twice.parquet", lambda: parquet({"prompt": same("A cat", 2000), "variation": same(LONG, 2000)}),
            None, TEXTS),
    Example("category.parquet", lambda: parquet({"prompt": same(LONG, 5000)}), None, TEXTS),
    Example("grown_text.parquet", lambda: parquet({"prompt": [LONG] * 1500}, use_dictionary=False, compression="zstd",
            column_encoding={"prompt": "DELTA_BYTE_ARRAY"}), None, TEXTS, slow=True),
    Example("plain_text.parquet", lambda: parquet({"prompt": [LONG] * 1500}, use_dictionary=False, compression="zstd"),
            None, PACKED, slow=True),
    Example("large_unread.parquet", lambda: parquet({"prompt": ["A cat"], "line": ["a" * 100_000_001]},
            compression="zstd"), 1, slow=True),
    Example("long_text.parquet", lambda: parquet({"prompt": ["a" * 100_001, "A cat"]}), 1, "it has 100,001 characters"),
    Example("long_text.jsonl", text(json.dumps({"prompt": "a" * 100_001})), 0, "100,000 are allowed. Shorten it"),
    Example("long_text.csv", text(HEADER + "a" * 100_001 + ",7\nA cat,7\n"), 1, "it has 100,001 characters"),
    Example("columns.csv", lambda: b"prompt," * 1001 + b"\n", None, "has more than 1,000 columns"),
    Example("columns.jsonl", text("".join(f'{{"prompt": "{n}", "a{n}": 1}}\n' for n in range(1000))), None, "1,000 names"),
    Example("cells.csv", lambda: b"prompt\n" + b"," * 2_000_001, None, "has a line of more than 2,000,000 characters: line 2"),
    Example("blank_lines.csv", lambda: b"prompt\nA cat\n" + b"\n" * 2_000_000, None, "has more than 2,000,000 lines", slow=True),
    Example("blank_lines.jsonl", lambda: b"\n" * 2_000_001 + b"{}", None, "has more than 2,000,000 lines", slow=True),
    Example("quoted_lines.csv", lambda: HEADER.encode() + b'"\n","\n",' * 500_000, None, "of more than 2,000,000 characters"),
    Example("lists.jsonl", lambda: b'{"prompt": ' + b"[]," * 700_000, None, "has a line of more than 2,000,000"),
    Example("nested.jsonl", lambda: b'{"prompt": ' + b"[" * 100_000 + b"\n", 0, "it is nested too deeply"),
    Example("nested_objects.jsonl", lambda: b'{"a":' * 100_000 + b"\n", 0, "it is nested too deeply"),
    Example("nested_and_closed.jsonl", lambda: b'{"prompt": ' + b"[" * 90 + b"]" * 90 + b"}\n", 0, "a list or an object is not"),
    Example("digits.jsonl", lambda: b'{"prompt": "A cat", "seed": ' + b"1" * 5000 + b"}\n", 0, "more than 300 digits"),
    Example("digits.csv", text(HEADER + "A cat," + "1" * 5000 + ".0\n"), 0, "may have been rounded"),
    Example("digits_whole.csv", text(HEADER + "A cat," + "1" * 5000 + "\n"), 0, "seed: Input should be a whole number"),
    Example("zip_bomb.xlsx", in_sheet(b"</sheetData>", b" " * 100_000_000 + b"</sheetData>"), None, PACKED, slow=True),
    Example("tags.xlsx", in_sheet(b"</sheetData>", b"<a/>" * 3_000_000 + b"</sheetData>"), None, "has too many cells", slow=True),
    Example("attributes.xlsx", in_sheet(b"</sheetData>", b"<a" + b' b="1"' * 6_000_000 + b"/></sheetData>"), None, "too many", slow=True),
    Example("entities.xlsx", lambda: repacked(SHEET, lambda name, part: b'<!DOCTYPE a [<!ENTITY b "c">]>' + part), None,
            "has XML in it that Excel does not write"),
    Example("other_xml.xlsx", lambda: repacked(SHEET, lambda name, part: b'<?xml version="1.0" encoding="cp037"?>' + part),
            None, "has XML in it that Excel does not write"),
    # formulas
    Example("formula.csv", text('prompt,seed\n"=HYPERLINK(""http://h/"",""click"")",1\n@SUM(1+1),2\n'), 0, "a formula"),
    Example("apostrophe.csv", text("prompt,seed\n'- a dog runs,1\n'tis a cat,'-1\n"), 1, "seed: Input should be a whole number"),
    Example("apostrophe_again.csv", text("prompt,seed,error\n'- a dog runs,'-1,failed\n'tis a cat,2,failed\n"), 2),
]  # fmt: skip


def main(folder: Path) -> None:
    """Write all of them, and print what is said."""
    from runcomfy.errors import InvalidInput
    from tests.runcomfy.manifest.making import problems, read_text

    for example in EXAMPLES:
        try:
            manifest = read_text(folder, example.name, example.data())
            said = f"{len(manifest.rows)} good; " + "; ".join(problems(manifest).values())
        except InvalidInput as error:
            said = error.message
        print(f"{example.name}: {said[:400]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
