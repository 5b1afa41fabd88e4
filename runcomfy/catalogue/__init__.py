"""The catalogue: what was made, what it cost and how it went, as a table of Parquet files that any tool can query.

`columns` says what it holds, `rows` makes a row of what the journal or the archive knows, `changes` tells what is new,
`partitions` keeps one file a day, and `updating` puts them together.
"""

from __future__ import annotations

from runcomfy.catalogue.columns import COLUMNS, SCHEMA, SCHEMA_VERSION, Column
from runcomfy.catalogue.partitions import TABLE, Day
from runcomfy.catalogue.updating import Update, update

__all__ = ["COLUMNS", "SCHEMA", "SCHEMA_VERSION", "TABLE", "Column", "Day", "Update", "update"]
