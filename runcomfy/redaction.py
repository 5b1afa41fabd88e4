"""Keep tokens and signed URLs out of texts: errors, log lines, artifacts, provenance.

The rule is blunt on purpose: everything after the `?` of a URL is cut, however it is signed, and so are bearer tokens
and AWS signatures on their own. All that is lost is a query that no one reads.
"""

from __future__ import annotations

import logging
import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit

__all__ = ["RedactingFilter", "redact", "redact_loggers", "strip_query", "without_queries"]

CUT = "[redacted]"
_MAX_TEXT_LENGTH = 16_384
_MAX_DEPTH = 100

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        # user and password in a URL
        (r"(?<![a-z0-9+.-])([a-z][a-z0-9+.-]{0,20}://)[^\s/@'\"<>]{1,500}@", rf"\1{CUT}@"),
        # the query of a URL, also of one whose slashes JSON has escaped
        (r"(\bhttps?:(?:\\?/){2}[^\s?#'\"<>]{1,2000})[?#][^\s'\"<>]+", rf"\1?{CUT}"),
        # a signed query behind a bare path, as HTTP libraries log it
        (
            r"((?:^|[\s'\"(])/[^\s?'\"]{0,2000})\?[^\s'\"]{0,8000}(?:signature|token|sig|key-pair-id)=[^\s'\"]*",
            rf"\1?{CUT}",
        ),
        # a URL that is percent-encoded into another text, with its signature
        (r"(\bhttps?%(?:25){0,3}3A%(?:25){0,3}2F%(?:25){0,3}2F)[^\s'\"<>&]{1,8000}", rf"\1{CUT}"),
        # tokens and the parts of an AWS signature on their own; words of prose contain no digit
        (r"(\bbearer\s{1,9})(?=[^\s'\",;]{0,200}\d)[^\s'\",;]{8,}", rf"\1{CUT}"),
        (
            r"(\b(?:x-amz-)?(?:signature|security-token|credential|sig|token)\b['\"]?\s{0,9}[=:]\s{0,9}b?['\"]?)"
            r"(?=[^\s'\"&,;]{0,200}\d)[^\s'\"&,;]{8,}",
            rf"\1{CUT}",
        ),
    )
)

_LEAKY_LOGGERS = ("boto3", "botocore", "httpcore", "httpx", "s3transfer", "urllib3")


def redact(value: Any, *, depth: int = 0) -> Any:
    """Return `value` with every secret cut out of its texts, and otherwise unchanged.

    Very long texts are shortened, and what is nested more than a hundred levels deep is left out; `depth` is the level
    of `value`.
    """
    if depth > _MAX_DEPTH:
        return CUT
    if isinstance(value, str):
        if len(value) > _MAX_TEXT_LENGTH:  # an untrusted text must not keep the patterns busy
            value = f"{value[:_MAX_TEXT_LENGTH]}… [{len(value) - _MAX_TEXT_LENGTH} more characters]"
        for pattern, replacement in _PATTERNS:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, dict):
        return {redact(name): redact(item, depth=depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(redact(item, depth=depth + 1) for item in value)
    return value


def strip_query(url: str) -> str:
    """Return `url` without user, password, query and fragment, so that it may be shown."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class RedactingFilter(logging.Filter):
    """Redact a log record's formatted message, so that no handler sees what was cut."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; never drop it."""
        record.msg, record.args = redact(record.getMessage()), None
        return True


_FILTER = RedactingFilter()


def redact_loggers() -> None:
    """Put the filter on every logger of the HTTP libraries that we use.

    They log whole URLs, signatures and headers at DEBUG. A filter on a parent does not see its children's records,
    so each existing logger gets one; call this again after importing more of those libraries (it is cheap).
    """
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] in _LEAKY_LOGGERS:
            logging.getLogger(name).addFilter(_FILTER)


def without_queries(value: Any) -> Any:
    """Return a value as JSON has it, every URL in it without its query, and without other secrets."""
    match value:
        case str():
            return strip_query(value) if value[:8].lower().startswith(("http://", "https://")) else redact(value)
        case list():
            return [without_queries(each) for each in value]
        case dict():
            return {without_queries(name): without_queries(each) for name, each in value.items()}
    return value
