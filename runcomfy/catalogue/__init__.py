"""The catalogue: what was made, what it cost and how it went, as a table of Parquet files that any tool can query.

It needs the extra `parquet` (pyarrow), which is loaded when the first name that needs it is used. `columns` says what
the table holds, and `values` what an update returns. `updating` brings it up to date: `changes` finds what is new,
`gathering` reads that from the journal and from the provenance `files`, `rows` makes rows of it, and `partitions` keeps
one file a day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runcomfy.catalogue.values import TABLE, Day, Update
from runcomfy.extras import needed
from runcomfy.lazy_names import lazily

if TYPE_CHECKING:
    from runcomfy.catalogue.columns import COLUMNS, SCHEMA, SCHEMA_VERSION, Column
    from runcomfy.catalogue.updating import update

__all__ = ["COLUMNS", "SCHEMA", "SCHEMA_VERSION", "TABLE", "Column", "Day", "Update", "update"]

if not TYPE_CHECKING:
    _find, __dir__ = lazily(__name__)

    def __getattr__(name: str) -> object:
        """Return one of the names above."""
        with needed("parquet", "The catalogue"):
            return _find(name)
