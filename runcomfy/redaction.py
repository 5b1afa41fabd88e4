"""Keep tokens and signed URLs out of texts: errors, log lines, artifacts, provenance.

The rule is blunt on purpose: whatever follows the `?` of a URL is cut, whoever signed it and however, and so are
bearer tokens and AWS signatures that stand on their own. What is lost is a query that nobody reads.
"""

from __future__ import annotations

import logging
import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit

__all__ = ["RedactingFilter", "redact", "redact_loggers", "strip_query"]

CUT = "[redacted]"
_LONGEST_TEXT = 16_384
_DEEPEST = 100

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
        # a URL that is percent-encoded into another text, with whatever it is signed with
        (r"(\bhttps?%(?:25){0,3}3A%(?:25){0,3}2F%(?:25){0,3}2F)[^\s'\"<>&]{1,8000}", rf"\1{CUT}"),
        # tokens and the parts of an AWS signature on their own; words of a prose have no digit in them
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
    """Return `value` with every secret cut out of its texts; the rest stays as it is.

    Very long texts are shortened, and what is nested more than a hundred times is left out, `depth` being how deep it
    is already.
    """
    if depth > _DEEPEST:
        return CUT
    if isinstance(value, str):
        if len(value) > _LONGEST_TEXT:  # a stranger's text must not keep the patterns busy
            value = f"{value[:_LONGEST_TEXT]}… [{len(value) - _LONGEST_TEXT} more characters]"
        for pattern, replacement in _PATTERNS:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, dict):
        return {redact(name): redact(item, depth=depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(redact(item, depth=depth + 1) for item in value)
    return value


def strip_query(url: str) -> str:
    """Return `url` without user, password, query and fragment: what may be shown of it."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class RedactingFilter(logging.Filter):
    """Redact a log record's finished message, so that no handler sees what was cut."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; never drop it."""
        record.msg, record.args = redact(record.getMessage()), None
        return True


_FILTER = RedactingFilter()


def redact_loggers() -> None:
    """Put the filter on every logger of the libraries that speak HTTP for us.

    They log whole URLs, signatures and headers at DEBUG. A filter on a parent does not see its children's records,
    so each existing logger gets its own; call this again after importing more of those libraries (it is cheap).
    """
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] in _LEAKY_LOGGERS:
            logging.getLogger(name).addFilter(_FILTER)
