"""The page about the catalogue: its columns are those of the code, and its examples run as they are."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb as duckdb_library
import duckdb_ext
import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types
import pytest

from runcomfy.catalogue import COLUMNS, SCHEMA, SCHEMA_VERSION
from runcomfy.journal import EntryState
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store
from tests.runcomfy.catalogue.making import DAY, Archiving, provenance_of

PAGE = (Path(__file__).parents[2] / "docs" / "catalogue.md").read_text(encoding="utf-8")
PARTS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
PLACE = "s3://my-bucket/videos/"
GENERATIONS = 7


def named(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "record"
    if pa.types.is_list(kind):
        return f"list of {named(kind.value_type)}"
    if pa.types.is_timestamp(kind):
        return "timestamp (µs)"
    return {"decimal128(12, 6)": "decimal(12, 6)", "double": "float64"}.get(str(kind), str(kind))


def in_hive(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return f"struct<{','.join(f'{field.name}:{in_hive(field.type)}' for field in kind)}>"
    if pa.types.is_list(kind):
        return f"array<{in_hive(kind.value_type)}>"
    if pa.types.is_timestamp(kind):
        return "timestamp"
    names = {"decimal128(12, 6)": "decimal(12,6)", "int32": "int", "int64": "bigint", "bool": "boolean"}
    return names.get(str(kind), str(kind))


def examples(part: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PARTS[part], re.MULTILINE | re.DOTALL)


def test_every_column_is_on_the_page() -> None:
    """With its type, its unit and what it means, in the order of the files."""
    lines = [
        f"| `{column.name}` | {named(column.type)}{', never null' if column.always else ''} | {column.unit} | "
        f"{column.about} |"
        for column in COLUMNS
    ]

    assert [line for line in PARTS["Columns"].splitlines() if line.startswith("| `")] == lines
    record = SCHEMA.field("outputs").type.value_type
    assert f"`{'`, `'.join(field.name for field in record)}`" in " ".join(PARTS["Columns"].split())
    assert f"version {SCHEMA_VERSION}" in PARTS["Columns"]


def test_the_table_of_athena_has_every_column() -> None:
    """With Hive's name of its type, in the same order."""
    (statement,) = [text for text in examples("Athena and Trino", "sql") if "EXTERNAL TABLE" in text]
    columns = ",\n".join(f"  {column.name} {in_hive(column.type)}" for column in COLUMNS)

    assert f"(\n{columns}\n)" in statement


@pytest.fixture(scope="module")
def catalogue(object_store: ObjectStore) -> Store:
    """A catalogue of two days, under a prefix of its own."""
    store = Store("videos", "page", session=object_store.session(), endpoint_url=object_store.endpoint_url)
    asyncio.run(_filled(Archiving(store)))
    return store


async def _filled(archiving: Archiving) -> None:
    for number in range(GENERATIONS - 2):
        entry = await archiving.begin(f"scene {number}", begun=DAY - timedelta(days=number % 2))
        await archiving.archive(entry, outputs=1 + number % 2)
    failed = await archiving.begin("failing")
    await archiving.move(failed, EntryState.FAILED, reason="it was told to", cost_usd=0.25)
    archiving.put(provenance_of(archiving.store, "fetched"))
    await archiving.update()


@pytest.fixture
def environment(object_store: ObjectStore) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": object_store.access_key,
        "AWS_SECRET_ACCESS_KEY": object_store.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": object_store.endpoint_url,
        "AWS_ALLOW_HTTP": "true",
        "PATH": "",
    }


def at(store: Store, text: str) -> str:
    assert PLACE in text
    return text.replace(PLACE, store.uri(store.prefix))


@pytest.mark.parametrize("library", ["Polars", "pandas", "PyArrow"])
def test_the_examples_in_python_run(library: str, catalogue: Store, environment: dict[str, str]) -> None:
    """Against a real S3 server, with nothing but the environment; each prints what was generated and what it cost."""
    (program,) = examples(library, "python")

    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", at(catalogue, program)], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != -signal.SIGABRT:  # Arrow's own threads end a process that the machine held up for minutes
            break

    assert done.returncode == 0, done.stderr
    assert "2026-11-20" in done.stdout and "archived" in done.stdout
    assert re.search(r"\b0\.50*\b", done.stdout), done.stdout


@pytest.fixture
def duckdb(object_store: ObjectStore) -> Iterator[Any]:
    """DuckDB with its extension for S3, out of a wheel, and the server's keys."""
    (extension,) = Path(duckdb_ext.__path__[0]).rglob(f"v{duckdb_library.__version__}/*/httpfs.duckdb_extension")
    with duckdb_library.connect() as connection:
        connection.execute(f"LOAD '{extension}'")
        connection.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID '{object_store.access_key}', SECRET '{object_store.secret_key}', "
            f"ENDPOINT '{object_store.endpoint_url.removeprefix('http://')}', URL_STYLE 'path', USE_SSL false)"
        )
        yield connection


def test_the_queries_of_duckdb_run(catalogue: Store, duckdb: Any) -> None:
    """Each has rows, and a cost is never counted twice, however many files a generation has."""
    connecting, view, *queries = examples("DuckDB", "sql")

    assert "INSTALL httpfs" in connecting
    duckdb.execute(at(catalogue, view))
    results = [duckdb.sql(query).fetchall() for query in queries]

    assert all(results), list(zip(queries, results, strict=True))
    total = duckdb.sql("SELECT count(*), sum(cost_usd), sum(output_count) FROM generations").fetchone()
    assert [float(figure) for figure in total] == [GENERATIONS, 0.25 * GENERATIONS, 5 + 2 + 1]
