"""Read a manifest: every row is checked, and everything that is wrong with any of them is found at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runcomfy.errors import InvalidInput
from runcomfy.extras import needed
from runcomfy.manifest.checking import check_table, is_empty, unknown_name
from runcomfy.manifest.delimited import read_delimited
from runcomfy.manifest.foreign import misnamed
from runcomfy.manifest.json_lines import read_json_lines
from runcomfy.manifest.location import locate, refuse_manifest
from runcomfy.manifest.rows import Manifest, ManifestFormat
from runcomfy.manifest.table import IGNORED, Table, UnreadableTable, shown
from runcomfy.models.orders import FIELDS
from runcomfy.storage.store import Store

__all__ = ["read_manifest"]


def read_manifest(
    source: str,
    store: Store,
    *,
    defaults: Mapping[str, Any] | None = None,
    allow_placeholder_prompts: bool = False,
) -> Manifest:
    """Read and check a manifest. It blocks: call it in a thread.

    Images are not read. A relative name starts at the manifest's folder; one of the defaults is taken as it is.

    Args:
        source: A path or `s3://bucket/key`; its extension says what it is: .csv, .tsv, .jsonl, .ndjson, .parquet,
            .xlsx or .xlsm.
        store: The credentials with which `s3://` is read.
        defaults: What counts where a row gives nothing, named as in `runcomfy.models.orders.FIELDS`.
        allow_placeholder_prompts: Whether a prompt may be what programs write where there is none: `nan`, `None`,
            `#REF!`, a formula, a number, a dash (`runcomfy.texts.is_placeholder`).

    Raises:
        InvalidInput: It cannot be read as a manifest at all. What is wrong with single rows is in `Manifest.bad`;
            `refuse_rows` raises it.
        ConfigurationError: It is in Parquet, and the extra `parquet` is not installed.
        StorageError: The store could not be read.
    """
    common = {name: value for name, value in (defaults or {}).items() if not is_empty(value)}
    if unknown := [name for name in common if name not in FIELDS]:
        sentences = [unknown_name(name) for name in unknown]
        raise InvalidInput(
            f"This cannot be set for all rows: {'; '.join(sentences)}. Nothing was paid for.",
            violations=list(zip(unknown, sentences, strict=True)),
        )
    location = locate(source)
    data = location.read(store)
    try:
        table = _table(data, location.format)
    except UnreadableTable as error:
        refuse_manifest(location.uri, misnamed(data, location.format) or str(error))
    if location.format != "jsonl" and "prompt" not in table.columns and "prompt" not in common:
        others = [shown(name) for name in table.columns if name not in FIELDS and name not in IGNORED]
        known = f" It has {', '.join(others)}, unknown here; there are {', '.join(FIELDS)}." if others else " Add one."
        refuse_manifest(location.uri, f"has no column prompt.{known}")
    rows, bad = check_table(table, location, common, allow_placeholders=allow_placeholder_prompts)
    return Manifest(
        uri=location.uri,
        format=location.format,
        columns=tuple(name for name in table.columns if name in FIELDS),
        rows=rows,
        bad=bad,
        row_count=len(table.records),
        delimiter=table.delimiter,
        header_line=None if location.format == "jsonl" else next(iter(table.columns.values()), None),
    )


def _table(data: bytes, kind: ManifestFormat) -> Table:
    if kind == "csv":
        return read_delimited(data)
    if kind == "jsonl":
        return read_json_lines(data)
    if kind == "xlsx":
        with needed("excel", "An Excel manifest"):
            from runcomfy.manifest.excel import read_excel

        return read_excel(data)
    with needed("parquet", "A Parquet manifest"):
        from runcomfy.manifest.parquet import read_parquet  # pyarrow takes time to load

    return read_parquet(data)
