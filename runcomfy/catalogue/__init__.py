"""The catalogue: what was made, what it cost and how it went, as a table of Parquet files that any tool can query.

`columns` says what it holds. `updating` brings it up to date: `changes` finds what is new, `gathering` reads that from
the journal and from the provenance `files`, `rows` makes rows of it, and `partitions` keeps one file a day.
"""

from __future__ import annotations

from runcomfy.catalogue.columns import COLUMNS, SCHEMA, SCHEMA_VERSION, Column
from runcomfy.catalogue.partitions import TABLE, Day
from runcomfy.catalogue.updating import Update, update

__all__ = ["COLUMNS", "SCHEMA", "SCHEMA_VERSION", "TABLE", "Column", "Day", "Update", "update"]
