"""The three formats: what is written is read the same, and what cannot be read says why and where."""

from __future__ import annotations

import csv
import decimal
import io
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runcomfy.errors import InvalidInput
from runcomfy.manifest import Manifest, ManifestFormat, write_manifest
from runcomfy.manifest.delimited import as_written, read_delimited
from runcomfy.manifest.parquet_sizes import chunks
from runcomfy.manifest.table import MAX_ROWS
from runcomfy.texts import is_placeholder, normal_text, unusable
from tests.runcomfy.manifest.making import csv_text, jsonl_text, problems, read_text

FORMATS = [pytest.param(kind, marks=pytest.mark.slow) if kind == "xlsx" else kind for kind in get_args(ManifestFormat)]
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
PROMPTS = TEXTS.filter(lambda text: not unusable(normal_text(text)) and not is_placeholder(normal_text(text)))
ROWS = st.lists(
    st.fixed_dictionaries(
        {"prompt": PROMPTS, "variation": PROMPTS},
        optional={
            "image": st.sampled_from(["/a.png", "https://example.com/ü b.png", "s3://bucket/c,d.png"]),
            "seed": st.integers(-(2**62), 2**62),
            "num_frames": st.sampled_from([81, 85, 97]),
            "enable_prompt_expansion": st.booleans(),
        },
    ).map(lambda row: {"model": "image-to-video" if "image" in row else "text-to-video", **row}),
    min_size=1,
    max_size=6,
    unique_by=lambda row: row["variation"],
)
ANY_BYTES = (
    st.binary(min_size=1, max_size=80)
    | st.text(max_size=80).map(str.encode)
    | st.text('prompt,seed"\n\r;{}[]: 1', max_size=60).map(lambda text: f'prompt,seed\n"{text}'.encode())
)


def parquet(columns: Mapping[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), file, **options)
    return file.getvalue()


def by_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}


def excel(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return write_manifest([(row, "") for row in rows], (), "xlsx")


WRITERS: dict[str, Callable[[list[dict[str, Any]]], str | bytes]] = {
    "csv": csv_text, "jsonl": jsonl_text, "parquet": lambda rows: parquet(by_columns(rows)), "xlsx": excel,
}  # fmt: skip


def read_bytes(kind: str, content: str | bytes) -> Manifest:
    with tempfile.TemporaryDirectory() as folder:
        return read_text(Path(folder), f"m.{kind}", content)


@pytest.mark.parametrize("kind", FORMATS)
@given(rows=ROWS)
@settings(max_examples=60)
def test_files_of_other_programs_are_read_the_same(kind: str, rows: list[dict[str, Any]]) -> None:
    """Any texts, including line breaks, quotes and separators; numbers and booleans, also where CSV has texts."""
    manifest = read_bytes(kind, WRITERS[kind](rows))

    assert manifest.bad == ()
    assert [(row.order.prompt, row.order.variation, row.order.image) for row in manifest.rows] == [
        (row["prompt"], row["variation"], row.get("image")) for row in rows
    ]
    names = ("seed", "num_frames", "enable_prompt_expansion")
    assert [row.order.settings for row in manifest.rows] == [
        {name: row[name] for name in names if name in row} for row in rows
    ]


@pytest.mark.parametrize("kind", FORMATS)
@given(rows=ROWS, errors=st.lists(TEXTS, min_size=6, max_size=6))
@settings(max_examples=60)
def test_a_manifest_of_failed_rows_can_be_run_again_as_it_is(
    kind: ManifestFormat, rows: list[dict[str, Any]], errors: Any
) -> None:
    """A manifest of failed rows has the same columns and an error, and asks for the same generations."""
    first = read_bytes(kind, WRITERS[kind](rows))

    written = write_manifest(
        [(row.source, error) for row, error in zip(first.rows, errors, strict=False)], first.columns, first.format
    )

    again = read_bytes(kind, written)
    assert again.bad == ()
    assert [row.order for row in again.rows] == [row.order for row in first.rows]
    assert [row.source for row in again.rows] == [row.source for row in first.rows]
    assert set(again.columns) == set(first.columns)


def test_a_failed_manifest_says_what_went_wrong_beside_each_row(tmp_path: Path) -> None:
    """In a last column; columns `line` and `error` of the file that it comes from are not kept, and secrets are cut."""
    first = read_text(tmp_path, "m.csv", "line,prompt,error,seed\n7,Rain,old,1\n8,Snow,old,2\n")

    written = write_manifest([(first.rows[1].source, "no: https://h/a?sig=1")], first.columns, "csv")

    assert first.columns == ("prompt", "seed")
    assert written.decode() == "prompt,seed,error\r\nSnow,2,no: https://h/a?[redacted]\r\n"


def test_a_spreadsheet_can_open_what_failed(tmp_path: Path) -> None:
    """With the separator that it wrote, and a byte order mark, without which it would spoil non-ASCII letters."""
    first = read_text(tmp_path, "m.csv", "prompt;seed\nSchnee fällt, langsam;1\n")

    written = write_manifest([(row.source, "failed") for row in first.rows], first.columns, first.format,
                             delimiter=first.delimiter)  # fmt: skip

    assert written == "\ufeffprompt;seed;error\r\nSchnee fällt, langsam;1;failed\r\n".encode()
    assert read_text(tmp_path, "again.csv", written).rows[0].order == first.rows[0].order


def test_values_of_several_types_can_be_written_as_parquet(tmp_path: Path) -> None:
    """A column of Parquet has one type; where values have several, or are too large for one, they become texts."""
    sources = [{"prompt": "a", "seed": 2**70}, {"prompt": "b", "seed": 7}, {"prompt": "c", "seed": 7.0, "variation": 1}]

    manifest = read_text(tmp_path, "m.parquet", write_manifest([(row, "") for row in sources],
                                                               ("prompt", "seed", "variation"), "parquet"))  # fmt: skip

    assert [row.order.settings["seed"] for row in manifest.rows] == [2**70, 7, 7.0]
    assert [row.order.variation for row in manifest.rows] == ["", "", "1"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_files_of_spreadsheets_are_read(tmp_path: Path, delimiter: str, mark: str) -> None:
    """Separators of all countries, a byte order mark, columns and rows that are empty, TRUE and 81.0."""
    head = delimiter.join(["prompt", " seed", "num_frames", "enable_prompt_expansion", "", ""])
    rows = [delimiter.join(cells) for cells in (["Rain", "1", "81.0", "TRUE", "", ""], [""] * 6, ["Snow", "2"])]

    manifest = read_text(tmp_path, "m.CSV", "\r\n".join([mark + head, *rows, "", ""]))

    assert manifest.bad == ()
    assert (manifest.delimiter, manifest.row_count) == (delimiter, 2)
    assert manifest.columns == ("prompt", "seed", "num_frames", "enable_prompt_expansion")
    assert [(row.line, row.order.settings) for row in manifest.rows] == [
        (2, {"seed": 1, "num_frames": 81, "enable_prompt_expansion": True}),
        (4, {"seed": 2}),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_line_of_a_csv_record_is_where_it_begins(tmp_path: Path, end: str) -> None:
    """Texts may span lines; a record's line is that of its beginning, as an editor counts."""
    lines = ["prompt,seed", '"Rain', 'falls",1', "", '"Snow', "", 'falls",x', "Hail,2"]

    manifest = read_text(tmp_path, "m.csv", end.join(lines))

    assert [(row.line, row.order.prompt) for row in manifest.rows] == [(2, f"Rain{end}falls"), (8, "Hail")]
    assert problems(manifest) == {5: "seed: Input should be a whole number (it is x)"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('"Rain" falls,1', 'its quotes do not match: within a quoted text, a quote is written twice, ""'),
        ('"Rain\n\nfalls" hard,1', "its quotes do not match, which was read up to line 5"),
        ("Rain,1,2", "it has 3 cells for 2 columns; put a text with a separator in it in quotes"),
        ("Rain,1,", "it has 3 cells for 2 columns"),
        (f'"{"Rain falls. " * 11_000}",1', 'a text has more than 131,072 characters; is a quote (") opened'),
    ],
)
def test_a_csv_row_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path, row: str, said: str) -> None:
    """It is a bad row at its line, and those after it are read."""
    manifest = read_text(tmp_path, "m.csv", f"prompt,seed\nSnow,1\n{row}\nHail,2\n")

    assert [good.order.prompt for good in manifest.rows] == ["Snow", "Hail"]
    assert manifest.bad[0].line == 3
    assert manifest.bad[0].problems[0].startswith(said)


def test_a_quote_that_is_never_closed_is_found(tmp_path: Path) -> None:
    """It must not silently swallow the rest of the file."""
    manifest = read_text(tmp_path, "m.csv", 'prompt,seed\nSnow,1\n"Rain,2\nHail,3\n')

    assert [row.line for row in manifest.rows] == [2]
    assert manifest.bad[0].line == 3
    assert "is opened here and never closed" in manifest.bad[0].problems[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": "a",}', "it is not JSON: "),
        ('{"prompt": "a"', "it is not JSON: Expecting ',' delimiter at column 15"),
        ('{"prompt": "a"} {"prompt": "b"}', "it is not JSON: Extra data at column 17"),
        ('["a"]', 'it is not an object; write one object a line, {"prompt": "…"}'),
        ("null", "it is not an object"),
        ('{"prompt": "a", "seed": NaN}', "it is not JSON: NaN is not a JSON value"),
        ('{"prompt": "a", "seed": 1, "seed": 2}', "seed is given twice; keep one of them"),
        ('{"prompt": "a", " prompt": "b"}', "prompt is given twice"),
        ('{"prompt": "a", "seed": ' + "1" * 5000 + "}", "a number has more than 300 digits"),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"prompt": ["a"]}', "prompt: a list or an object is not allowed here; give a text, a number, true or false"),
        ('{"prompt": "a", "seed": {"b": 1}}', "seed: a list or an object is not allowed here"),
        ('{"prompt": "a\\ud800"}', "prompt: the text holds half a character; write it again"),
        ('{"prompt": "a", "variation": "\\udfff"}', "variation: the text holds half a character"),
        ('{"prompt": "a\\u0000"}', "prompt: the text holds a NUL character; take it out"),
        ('{"prompt": true}', "prompt: it is not a text; write it as one"),
        ('{"prompt": "a", "image": 7}', "image: it is not a text"),
        ('{"prompt": "a", "variation": false}', "variation: it is not a text"),
        ("{}", "prompt: it is missing"),
    ],
)
def test_a_json_line_that_cannot_be_used_does_not_hide_the_others(tmp_path: Path, line: str, said: str) -> None:
    """It is a bad row at its line with the parser's words, blank lines are skipped, and the others are good."""
    text = (
        f'\ufeff{{"prompt": "Rain\u2028\u0085"}}\r\n\r\n{line}\n \t\n{{"prompt": "Snow", "variation": 2, "seed": null}}'
    )

    manifest = read_text(tmp_path, "m.ndjson", text)

    assert [(row.line, row.order.prompt, row.order.variation) for row in manifest.rows] == [
        (1, "Rain\u2028\u0085", ""), (5, "Snow", "2"),
    ]  # fmt: skip
    assert [bad.line for bad in manifest.bad] == [3]
    assert manifest.bad[0].problems[0].startswith(said)


def test_the_types_of_parquet_are_understood(tmp_path: Path) -> None:
    """Dictionaries, large texts, decimals and floats that are whole; NaN is what pandas writes for a missing one."""
    content = parquet({
        "prompt": pa.array(["a", "b", "a"]).dictionary_encode(),
        "variation": pa.array(["1", "2", None], pa.large_string()),
        "seed": pa.array([decimal.Decimal("7.00"), None, decimal.Decimal("-1.00")]),
        "num_frames": pa.array([81.0, float("nan"), 97.0]),
        "frames_per_second": pa.array([24, 24, None], pa.uint8()),
        "enable_prompt_expansion": pa.array([None, True, False]),
        "aspect_ratio": pa.nulls(3),
        "line": pa.array([[1], [2], [3]]),
    })  # fmt: skip

    manifest = read_text(tmp_path, "m.parquet", content)

    assert manifest.bad == ()
    assert [(row.line, row.order.prompt, row.order.variation) for row in manifest.rows] == [
        (1, "a", "1"), (2, "b", "2"), (3, "a", ""),
    ]  # fmt: skip
    assert [row.order.settings for row in manifest.rows] == [
        {"seed": 7, "num_frames": 81, "frames_per_second": 24},
        {"frames_per_second": 24, "enable_prompt_expansion": True},
        {"seed": -1, "num_frames": 97, "enable_prompt_expansion": False},
    ]
    assert all(type(row.source[name]) is int for row in manifest.rows for name in ("seed",) if row.source[name])


def test_rows_of_parquet_are_counted_from_one(tmp_path: Path) -> None:
    """Across its groups of rows; and what is wrong with the columns is at 0."""
    count = 25_000
    content = parquet({"prompt": [f"Rain {number}" for number in range(count)], "sed": [1] * count,
                       "seed": [0.5 if number == 20_000 else 1 for number in range(count)]})  # fmt: skip

    manifest = read_text(tmp_path, "m.parquet", content)

    assert manifest.row_count == count
    assert problems(manifest) == {
        0: "sed: there is no such field; did you mean seed?",
        20_001: "seed: Input should be a whole number (it is 0.5)",
    }
    assert manifest.rows == ()


GOOD = parquet({"prompt": ["a", "b"]})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.csv", "", "is empty"),
        ("m.jsonl", " \n\n", "is empty"),
        ("m.parquet", b"", "is empty"),
        ("m.csv", "prompt,seed\n", "has no rows"),
        ("m.csv", "prompt,seed\n,\n\n", "has no rows"),
        ("m.jsonl", "\ufeff\n", "has no rows"),
        ("m.parquet", parquet({"prompt": pa.array([], pa.string())}), "has no rows"),
        ("m.csv", "prompt\n" + "a\n" * (MAX_ROWS + 1), f"has more than {MAX_ROWS:,} rows. Split it"),
        ("m.csv", "a photo.jpg,Rain falls\n", "has no header: its columns are to be named image, prompt"),
        ("m.csv", '"prompt,seed\n1\n', "has no header: line 1 cannot be read, a quote"),
        ("m.csv", "prompt,,seed\nRain,x,1\n", "has a column without a name: number 2"),
        ("m.csv", "prompt,seed, prompt \na,1,b\n", "has more than one column prompt"),
        ("m.parquet", pa.table([["a"], ["b"]], ["prompt", "prompt "]), "has more than one column prompt"),
        ("m.csv", "image,seed\na.png,1\n", "has no column prompt. Add one"),
        ("m.csv", "image,promt\na.png,Rain\n", "has no column prompt. It has promt, unknown here; there are image"),
        ("m.parquet", parquet({"image": ["a.png"], "line": [1]}), "has no column prompt. Add one"),
        ("m.csv", "prompt,seed\nRain,1\nSchnee f\xe4llt,2\n".encode("latin-1"), r"is not UTF-8 text \(line 3\)"),
        ("m.jsonl", b'{"prompt": "\xff"}', r"is not UTF-8 text \(line 1\)"),
        ("m.csv", "prompt\nRain\n".encode("utf-16")[:-1], r"is not UTF-16 text \(line 2\)"),
        ("m.parquet", b"PAR1 but not really PAR1", "as Parquet: its footer is cut, damaged or too large"),
        ("m.parquet", GOOD[: len(GOOD) // 2], "cannot be read as Parquet"),
        ("m.parquet", GOOD[:4] + b"\xff" * 40 + GOOD[44:], "cannot be read as Parquet"),
        ("m.parquet", parquet({"prompt": [["a"]]}), "has a column prompt of the type list<"),
        ("m.parquet", parquet({"prompt": ["a"], "seed": [datetime(2026, 1, 1, tzinfo=UTC)]}), "of the type timestamp"),
        ("m.parquet", parquet({"prompt": [b"a"]}), "of the type binary; there can be texts"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_manifest_is_refused(tmp_path: Path, name: str, content: Any, said: str) -> None:
    """One sentence about the file, and that nothing was paid for; never another kind of error."""
    if isinstance(content, pa.Table):
        file = io.BytesIO()
        pq.write_table(content, file)
        content = file.getvalue()

    with pytest.raises(InvalidInput, match=f"{name} .*{said}.*Nothing was paid for") as caught:
        read_text(tmp_path, name, content)

    assert [field for field, _ in caught.value.violations] == ["manifest"]


@pytest.mark.parametrize("kind", FORMATS)
@given(content=ANY_BYTES)
@settings(max_examples=150)
def test_any_bytes_are_a_manifest_or_invalid_input(kind: str, content: bytes) -> None:
    """Whatever is put into the bucket, nothing else is raised."""
    try:
        manifest = read_bytes(kind, content)
    except InvalidInput:
        return
    assert len(manifest.rows) + len(manifest.bad) > 0


CELLS = st.text(st.sampled_from("'=+-@\t\r\n ;,\"a1\u200b\uff1d"), max_size=8) | TEXTS


@given(texts=st.lists(CELLS, min_size=1, max_size=5), delimiter=st.sampled_from(",;\t"))
@settings(max_examples=200)
def test_no_cell_of_a_written_csv_is_a_formula_and_each_is_read_as_it_was(texts: list[str], delimiter: str) -> None:
    """Also where an apostrophe was there before; a number is none."""
    rows = [{"prompt": "Rain", "variation": text} for text in texts]

    written = write_manifest([(row, text) for row, text in zip(rows, texts, strict=True)], (), "csv",
                             delimiter=delimiter)  # fmt: skip

    cells = list(csv.DictReader(io.StringIO(written.decode("utf-8-sig"), newline=""), delimiter=delimiter))
    for cell in (cell for row in cells for cell in row.values()):
        assert re.fullmatch(r"-\d+(\.\d+)?", cell) or not re.match(r"[\t\r\n]|\s*[=+\-@\uff1d\uff0b\uff0d\uff20]", cell)
    assert [as_written(row["variation"]) for row in cells] == texts
    assert [record.values["variation"] for record in read_delimited(written).records] == texts


@pytest.mark.parametrize(("mark", "kept"), [("", True), (",error", False)])
def test_an_apostrophe_is_left_out_only_of_what_was_written_here(mark: str, kept: bool) -> None:
    """In a manifest of one's own it is part of the text, and of the key of what may be paid for already."""
    filled = ",failed" if mark else ""
    [record] = read_delimited(f"prompt{mark}\n'- a dog runs{filled}\n".encode()).records

    assert record.values["prompt"] == ("'- a dog runs" if kept else "- a dog runs")


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}, {"data_page_version": "2.0", "row_group_size": 7},
                                     {"compression": "zstd", "write_statistics": False}])  # fmt: skip
def test_the_sizes_of_a_parquet_file_are_those_that_pyarrow_knows(options: dict[str, Any]) -> None:
    """Its own metadata counts the headers of the pages, too."""
    file = io.BytesIO()
    table = pa.table({"prompt": [f"Rain {number % 9}" for number in range(50)], "seed": list(range(50))})
    pq.write_table(table, file, **options)
    metadata = pq.read_metadata(file)

    found = list(chunks(file.getvalue()))

    known = [metadata.row_group(group).column(place) for group in range(metadata.num_row_groups) for place in (0, 1)]
    assert [(chunk.column, chunk.unpacked_bytes) for chunk in found] == [
        (each.path_in_schema, each.total_uncompressed_size) for each in known
    ]
    assert [chunk.has_dictionary for chunk in found] == [each.has_dictionary_page for each in known]


def varint(number: int) -> bytes:
    """Return a number as Thrift's compact protocol has it."""
    number, written = number << 1, bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes((*written, number))


@pytest.mark.slow
def test_a_page_that_unpacks_to_more_than_the_footer_says_is_refused(tmp_path: Path) -> None:
    """The sizes in the footer are only what a program wrote there."""
    size = 120_000_000
    content = parquet({"prompt": ["a" * size]}, compression="zstd", use_dictionary=False, write_statistics=False)
    (chunk,) = chunks(content)
    told = varint(chunk.unpacked_bytes)
    lying = content.replace(told, b"\xe4" + b"\x80" * (len(told) - 2) + b"\0")  # 50
    (found,) = chunks(lying)
    assert pq.read_metadata(io.BytesIO(lying)).row_group(0).column(0).total_uncompressed_size == 50
    assert found.unpacked_bytes >= size
    with pytest.raises(InvalidInput, match="has more than 100,000,000 bytes when it is unpacked"):
        read_text(tmp_path, "m.parquet", lying)
