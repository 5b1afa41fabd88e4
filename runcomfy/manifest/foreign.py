"""Files that are not what is read here: named for what they are, with the way to a manifest."""

from __future__ import annotations

from runcomfy.manifest.rows import ManifestFormat
from runcomfy.media.kinds import SNIFF_BYTES, describe, sniff

__all__ = ["NOT_READ", "misnamed"]

_AS_CSV = "In the program that made it, save or export it as CSV in UTF-8 (Excel: 'CSV UTF-8')"
_AS_JSON_LINES = (
    "Write one object a line as .jsonl (with jq: jq -c '.[]'; in pandas: to_json(…, orient='records', lines=True))"
)
NOT_READ = {
    **dict.fromkeys((".xls", ".xlsb", ".ods", ".numbers", ".gsheet", ".fods", ".sxc"),
                    f"is a spreadsheet of a kind that is not read. {_AS_CSV}, or as .xlsx."),
    **dict.fromkeys((".json", ".json5", ".geojson"), f"is JSON, not JSON Lines. {_AS_JSON_LINES}."),
    **dict.fromkeys((".gz", ".zip", ".zst", ".bz2", ".xz", ".7z", ".tar", ".tgz"), "is packed. Unpack it first."),
    **dict.fromkeys((".feather", ".arrow", ".orc", ".pkl", ".pickle", ".h5", ".avro", ".db", ".sqlite", ".duckdb"),
                    "is a table of a kind that is not read. Write it as .parquet or .csv."),
    **dict.fromkeys((".txt", ".tab", ".dat", ".psv"),
                    "may be a manifest, but its extension does not say so. Name it .csv or .tsv."),
    **dict.fromkeys((".yaml", ".yml", ".toml", ".xml", ".html", ".htm", ".md", ".pdf", ".docx"),
                    "is a document, not a table. Write its rows as .csv or .jsonl."),
}  # fmt: skip
"""What to say of a file that is not read, by the extension of its name."""

_FORMAT_NAMES = {"csv": "a CSV file", "jsonl": "JSON Lines", "parquet": "a Parquet file", "xlsx": "an Excel file"}
_PICKLED = (b"\x80\x03", b"\x80\x04\x95", b"\x80\x05\x95")
_MEDIA = {"image": "an image", "video": "a video", "audio": "a sound"}
_PACKED = frozenset({"7z", "gzip", "tar", "zip", "zstd"})
_STARTS = (
    (b"PAR1", "parquet", "a Parquet file", "Name it .parquet."),
    (b"PK\3\4", "xlsx", "an Excel file or another ZIP archive", "Name an Excel file .xlsx, and unpack another one."),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "", "a spreadsheet of old Excel (.xls), or one with a password",
     f"{_AS_CSV}, without a password."),
    (b"\x1f\x8b", "", "packed (gzip)", "Unpack it first."),
    (b"\x28\xb5\x2f\xfd", "", "packed (Zstandard)", "Unpack it first."),
    (b"BZh", "", "packed (bzip2)", "Unpack it first."),
    (b"%PDF-", "", "a PDF document", "Write its rows as .csv."),
    (b"ARROW1", "", "an Arrow (Feather) file", "Write it as .parquet."),
    (b"SQLite format 3\0", "", "an SQLite database", "Export its table as .csv."),
    (b"\xfd7zXZ\0", "", "packed (xz)", "Unpack it first."),
    (b"Rar!", "", "packed (RAR)", "Unpack it first."),
    (b"\x04\x22\x4d\x18", "", "packed (LZ4)", "Unpack it first."),
    (b"Obj\x01", "", "an Avro file", "Write it as .parquet or .csv."),
    (b"ORC", "", "an ORC file", "Write it as .parquet or .csv."),
    (b"{\\rtf", "", "an RTF document", "Write its rows as .csv."),
    *((start, "", "an object that Python pickled", "Write it as .parquet or .csv.") for start in _PICKLED),
    *((start, "", "an encrypted file", "Decrypt it first.") for start in (b"-----BEGIN PGP", b"Salted__", b"age-encr")),
    (b"MZ\x90", "", "a program", "Name the manifest."),
    (b"\x7fELF", "", "a program", "Name the manifest."),
    (b"version https://git-lfs", "", "the pointer that Git LFS keeps in place of the file", "Run `git lfs pull`."),
)  # fmt: skip


def misnamed(data: bytes, format: ManifestFormat) -> str:
    """Say what a file is that could not be read as what it is named; an empty text if that is not known."""
    named = _FORMAT_NAMES[format]
    for start, kind, found, advice in _STARTS:
        if data.startswith(start):
            return "" if kind == format else f"is not {named}, as its name says, but {found}. {advice}"
    head = data[:SNIFF_BYTES]
    if head and not head.strip(b"\0"):
        return f"is not {named}, as its name says, but nothing but zero bytes. Copy or download it again."
    found_kind = sniff(head)
    if found_kind is not None and found_kind.container in _PACKED:
        return f"is not {named}, as its name says, but packed. Unpack it first."
    medium = _MEDIA.get(found_kind.content_type.partition("/")[0]) if found_kind is not None else None
    if medium is not None:
        return f"is not {named}, as its name says, but {medium}. Name the manifest, not a file that it names."
    what = describe(head)
    if what in ("an HTML page", "an XML document"):
        return f"is not {named}, as its name says, but {what}: an error page, perhaps. Download it again."
    if what == "a JSON document" and format != "jsonl":
        return f"is not {named}, as its name says, but JSON. {_AS_JSON_LINES}."
    if what == "plain text" and format in ("parquet", "xlsx"):
        return f"is not {named}, as its name says, but plain text. Name it .csv or .jsonl if it is that."
    if what == "plain text" and format == "jsonl" and not head.lstrip().startswith(b"#"):
        return f"is not {named}, as its name says, but plain text. Name it .csv if it is that. {_AS_JSON_LINES}."
    return ""
