"""Manifests: a CSV, JSON Lines or Parquet file in which each row asks for a generation.

`location` finds the file and the images that it names, `delimited`, `json_lines` and `parquet` read and write the
three formats as a `table`, `table` also checks its header, `checking` the names and rows, `reading` makes `rows` of
it, and `writing` makes a manifest of those that failed.
"""

from __future__ import annotations

from runcomfy.manifest.reading import read_manifest
from runcomfy.manifest.rows import BadRow, Manifest, ManifestFormat, Row, refuse_rows
from runcomfy.manifest.writing import standalone_row, write_manifest

__all__ = [
    "BadRow",
    "Manifest",
    "ManifestFormat",
    "Row",
    "read_manifest",
    "refuse_rows",
    "standalone_row",
    "write_manifest",
]
