"""Read a manifest: every row is checked, and everything that is wrong with any of them is found at once.

It is read twice where it names models of the catalogue: first to know which, then with the names of their inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from runcomfy.errors import InvalidInput
from runcomfy.extras import needed
from runcomfy.manifest.checking import check_table, is_empty, unknown_name
from runcomfy.manifest.delimited import read_delimited
from runcomfy.manifest.foreign import misnamed
from runcomfy.manifest.json_lines import read_json_lines
from runcomfy.manifest.location import Location, locate, refuse_manifest, within_memory
from runcomfy.manifest.rows import Manifest, ManifestFormat
from runcomfy.manifest.table import IGNORED, TYPED, Names, Table, UnreadableTable, shown
from runcomfy.models import MODELS
from runcomfy.models.columns import field_names, named_model
from runcomfy.models.orders import Kinds
from runcomfy.storage.store import Store

__all__ = ["ManifestFile", "open_manifest", "read_manifest"]


@dataclass(frozen=True)
class ManifestFile:
    """A manifest whose bytes were read; parsing and checking block."""

    location: Location
    data: bytes
    defaults: Mapping[str, Any]
    """What counts where a row gives nothing; nothing in it is empty."""

    @cached_property
    def models(self) -> frozenset[str]:
        """The models that rows name, or the defaults: ids, or what stands in their place; empty for those without.

        Raises:
            InvalidInput: It cannot be read as a manifest at all.
        """
        with within_memory(self.location.uri):
            return self._models()

    def _models(self) -> frozenset[str]:
        default = named_model(self.defaults.get("model"))
        try:
            records = self._first.records
        except UnreadableTable as error:
            if not default or default in MODELS:
                self._refuse(error)
            return frozenset([default])  # its header may be of names that are not known yet
        named = (named_model(record.values.get("model")) or default for record in records if not record.problem)
        return frozenset(named)

    def manifest(self, kinds: Kinds, *, allow_placeholder_prompts: bool = False) -> Manifest:
        """Check all of it.

        Args:
            kinds: The models of the catalogue that it names.
            allow_placeholder_prompts: See `read_manifest`.

        Raises:
            InvalidInput: It cannot be read as a manifest at all, or a default is none of any model in it.
        """
        with within_memory(self.location.uri):
            return self._manifest(kinds, allow_placeholder_prompts)

    def _manifest(self, kinds: Kinds, allow_placeholder_prompts: bool) -> Manifest:
        classes = [kind for kind in kinds.values() if not isinstance(kind, InvalidInput)]
        typed = not kinds or not self.models <= kinds.keys()
        known = Names(field_names(classes, typed=typed)) if kinds else TYPED
        common = self._known_defaults(known)
        try:
            table = _table(self.data, self.location.format, known) if kinds else self._first
        except UnreadableTable as error:
            self._refuse(error)
        if not kinds and self.location.format != "jsonl" and "prompt" not in table.columns and "prompt" not in common:
            self._refuse_without_prompt(table)
        rows, bad = check_table(
            table, self.location, common, kinds, known, allow_placeholders=allow_placeholder_prompts
        )
        return Manifest(
            uri=self.location.uri,
            format=self.location.format,
            columns=tuple(name for name in table.columns if name in known),
            rows=rows,
            bad=bad,
            row_count=len(table.records),
            delimiter=table.delimiter,
            header_line=None if self.location.format == "jsonl" else next(iter(table.columns.values()), None),
        )

    @cached_property
    def _first(self) -> Table:
        return _table(self.data, self.location.format, TYPED)

    def _known_defaults(self, known: Names) -> dict[str, Any]:
        named = {known.of(name): value for name, value in self.defaults.items()}
        if unknown := [name for name in named if name not in known]:
            sentences = [unknown_name(name, known) for name in unknown]
            raise InvalidInput(
                f"This cannot be set for all rows: {'; '.join(sentences)}. Nothing was paid for.",
                violations=list(zip(unknown, sentences, strict=True)),
            )
        return named

    def _refuse_without_prompt(self, table: Table) -> None:
        others = [shown(name) for name in table.columns if name not in TYPED and name not in IGNORED]
        known = f" It has {', '.join(others)}, unknown here; there are {', '.join(TYPED.fields)}." if others else ""
        refuse_manifest(self.location.uri, f"has no column prompt.{known or ' Add one.'}")

    def _refuse(self, error: UnreadableTable) -> NoReturn:
        refuse_manifest(self.location.uri, misnamed(self.data, self.location.format) or str(error))


def open_manifest(source: str, store: Store, defaults: Mapping[str, Any] | None = None) -> ManifestFile:
    """Read the bytes of a manifest. It blocks: call it in a thread; see `read_manifest`."""
    given = {name: value for name, value in (defaults or {}).items() if not is_empty(value)}
    location = locate(source)
    with within_memory(location.uri):
        return ManifestFile(location, location.read(store), given)


def read_manifest(
    source: str,
    store: Store,
    *,
    defaults: Mapping[str, Any] | None = None,
    kinds: Kinds | None = None,
    allow_placeholder_prompts: bool = False,
) -> Manifest:
    """Read and check a manifest. It blocks: call it in a thread.

    Media are not read. A relative name starts at the manifest's folder; one of the defaults is taken as it is.

    Args:
        source: A path or `s3://bucket/key`; its extension says what it is: .csv, .tsv, .jsonl, .ndjson, .parquet,
            .xlsx or .xlsm.
        store: The credentials with which `s3://` is read.
        defaults: What counts where a row gives nothing, by the names of `runcomfy.models.columns`.
        kinds: The models of the catalogue that it names; see `ManifestFile.models`.
        allow_placeholder_prompts: Whether a prompt may be what programs write where there is none: `nan`, `None`,
            `#REF!`, a formula, a number, a dash (`runcomfy.texts.is_placeholder`).

    Raises:
        InvalidInput: It cannot be read as a manifest at all. What is wrong with single rows is in `Manifest.bad`;
            `refuse_rows` raises it.
        ConfigurationError: It is in Parquet, and the extra `parquet` is not installed.
        StorageError: The store could not be read.
    """
    opened = open_manifest(source, store, defaults)
    return opened.manifest(kinds or {}, allow_placeholder_prompts=allow_placeholder_prompts)


def _table(data: bytes, kind: ManifestFormat, known: Names) -> Table:
    if kind == "csv":
        return read_delimited(data, known)
    if kind == "jsonl":
        return read_json_lines(data, known)
    if kind == "xlsx":
        with needed("excel", "An Excel manifest"):
            from runcomfy.manifest.excel import read_excel

        return read_excel(data, known)
    with needed("parquet", "A Parquet manifest"):
        from runcomfy.manifest.parquet import read_parquet  # pyarrow takes time to load

    return read_parquet(data, known)
