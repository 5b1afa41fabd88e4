"""Make manifests as people and programs write them, and read them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3

from runcomfy.manifest import Manifest, read_manifest
from runcomfy.storage.store import Store

NOT_ASKED = Store("videos", session=boto3.Session("key", "secret", region_name="eu-west-1"))
"""A store for manifests that are files: it is not reached."""


def csv_text(rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> str:
    """Write CSV with Python's own writer, a column for each name of any row."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, names, restval="", delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def jsonl_text(rows: Sequence[Any]) -> str:
    """Write JSON Lines, non-ASCII characters as they are."""
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def read_text(folder: Path, name: str, content: str | bytes, **options: Any) -> Manifest:
    """Write a manifest into a folder and read it."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_manifest(str(path), NOT_ASKED, **options)


def problems(manifest: Manifest) -> dict[int, str]:
    """Return the problems, by line."""
    return {bad.line: "; ".join(bad.problems) for bad in manifest.bad}
