"""Manifests: a CSV, JSON Lines, Parquet or Excel file in which each row asks for a generation.

`location` finds the file and the images that it names, and `foreign` names what is another file. `delimited`,
`json_lines`, `parquet` (after a look at its `parquet_sizes`) and `excel` read and write the formats as a `table`, which
also has the limits; `header` knows which line and which columns of it count. `checking` looks at names and rows,
`reading` makes `rows` of it, `writing` makes a manifest of those that failed, and `template` one to begin with.
"""

from __future__ import annotations

from runcomfy.manifest.reading import ManifestFile, open_manifest, read_manifest
from runcomfy.manifest.rows import BadRow, Manifest, ManifestFormat, Row, refuse_rows
from runcomfy.manifest.writing import standalone_row, write_manifest

__all__ = [
    "BadRow",
    "Manifest",
    "ManifestFile",
    "ManifestFormat",
    "Row",
    "open_manifest",
    "read_manifest",
    "refuse_rows",
    "standalone_row",
    "write_manifest",
]
