"""Write rows of a manifest as a manifest of the same format, with what went wrong beside each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runcomfy.extras import needed
from runcomfy.manifest.checking import is_empty
from runcomfy.manifest.delimited import write_delimited
from runcomfy.manifest.json_lines import write_json_lines
from runcomfy.manifest.rows import ManifestFormat
from runcomfy.manifest.table import IGNORED
from runcomfy.models.cells import text_of
from runcomfy.models.columns import column_of
from runcomfy.models.orders import Order
from runcomfy.redaction import redact

__all__ = ["standalone_row", "write_manifest"]

_ERROR = "error"


def standalone_row(
    source: Mapping[str, Any], order: Order, image: str | None, *, typed: bool = False
) -> dict[str, Any]:
    """Return a row that asks for the same generation in any folder, and without the defaults of its batch.

    Args:
        source: The row as it was given.
        order: What it asks for.
        image: The URI of a typed model's staged image, or `None`. A name relative to the first manifest would be
            another file beside the second, and a signed URL would end up in the bucket.
        typed: Whether the format has lists and objects.
    """
    if order.kind is not None:
        inputs = {
            column_of(name): value if typed else text_of(order.kind, name, value)
            for name, value in order.settings.items()
        }
        return {"model": order.model_id, "variation": order.variation} | inputs
    complete = {"model": order.model_id, "prompt": order.prompt, "variation": order.variation, **order.settings}
    filled = {name: value for name, value in complete.items() if is_empty(source.get(name)) and not is_empty(value)}
    return {**source, **filled} if image is None else {**source, **filled, "image": image}


def write_manifest(
    rows: Iterable[tuple[Mapping[str, Any], str]],
    columns: Sequence[str],
    format: ManifestFormat,
    *,
    delimiter: str = ",",
) -> bytes:
    """Return a manifest of these rows, with a column `error`; reading leaves that out, so it can be run again as it is.

    Args:
        rows: Each row (see `standalone_row`), and what went wrong with it; secrets are cut out of the latter.
        columns: Those of the manifest that the rows come from; what the rows have beyond them follows.
        format: That of the manifest that the rows come from.
        delimiter: The separator of the cells of a CSV file.
    """
    written = [{**source, _ERROR: redact(error)} for source, error in rows]
    names = [
        name for name in dict.fromkeys((*columns, *(name for row in written for name in row))) if name not in IGNORED
    ]
    if format == "jsonl":
        return write_json_lines(written)
    if format == "csv":
        return write_delimited(written, [*names, _ERROR], delimiter)
    if format == "xlsx":
        with needed("excel", "An Excel manifest"):
            from runcomfy.manifest.excel import write_excel

        return write_excel(written, [*names, _ERROR])
    with needed("parquet", "A Parquet manifest"):
        from runcomfy.manifest.parquet import write_parquet  # pyarrow takes time to load

    return write_parquet(written, [*names, _ERROR])
