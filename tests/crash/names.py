"""What a call is about, in words that are the same in every run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

__all__ = ["name_api_call", "name_s3_call"]

_ENTRY = re.compile(r"[0-9a-f]{64}\.json")
_WORD = re.compile(r"[a-z]+|$")


def name_api_call(method: str, target: str, headers: Mapping[str, str]) -> str:
    """Name a call to the service, such as `api POST submit` or `api GET output`."""
    path = urlsplit(target).path
    if path.startswith("/v1/models/"):
        return f"api {method} {'submit' if method == 'POST' else 'model'}"
    if path.startswith("/outputs/"):
        return f"api {method} output"
    return f"api {method} {path.rpartition('/')[2]}"


def name_s3_call(method: str, target: str, headers: Mapping[str, str]) -> str:
    """Name a call to the store, such as `s3 HEAD video`, `s3 PUT part 2` or `s3 PUT journal if-match`."""
    condition = next((f" {name}" for name in ("if-match", "if-none-match") if name in headers), "")
    return f"s3 {method} {_object(target)}{condition}"


def _object(target: str) -> str:
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    key = parts.path.lstrip("/").partition("/")[2]
    name = key.rpartition("/")[2]
    if "partNumber" in query:
        return f"part {query['partNumber'][0]}"
    if "uploads" in query:
        return "uploads"
    if "uploadId" in query:
        return "upload"
    if not key:
        return "list" if "prefix" in query else "bucket"
    if "/images/" in key:
        return "images"
    if "/journal/" in key:
        return "journal" if _ENTRY.fullmatch(name) else f"journal {_WORD.findall(name)[0]}"
    return "provenance" if name.endswith(".json") else "video"
