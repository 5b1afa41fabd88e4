"""Read an HTTP answer as one of our errors: the one place that knows which code means what.

The codes are RunComfy's documented ones; which HTTP status goes with which code is not documented, so the code in the
body is looked at first, and the HTTP status only where there is none.
"""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runcomfy.errors import (
    AuthenticationError,
    InsufficientBalance,
    RateLimited,
    RequestNotFound,
    RequestRejected,
    ServiceError,
    ServiceUnavailable,
)

if TYPE_CHECKING:  # the command line reads states without it
    import httpx

__all__ = [
    "ANOTHER_ACCOUNT",
    "DOCUMENTED_REFUSALS",
    "error_code",
    "json_object",
    "read_refusal",
    "retry_after_seconds",
    "says_no",
]

ANOTHER_ACCOUNT = 403001
"""The error code for a request that is there, and belongs to somebody else."""

_BY_CODE: dict[int | str | None, tuple[type[ServiceError], str]] = {
    400001: (RequestRejected, "The service does not know this model id"),
    400002: (InsufficientBalance, "The RunComfy account has no balance: top it up"),
    400004: (AuthenticationError, "The RunComfy token or account was refused: check RUNCOMFY_API_TOKEN or the block"),
    ANOTHER_ACCOUNT: (RequestNotFound, "This request belongs to another RunComfy account"),
    404001: (RequestNotFound, "The service does not know this request: it is unknown, deleted or expired"),
}
DOCUMENTED_REFUSALS = frozenset(_BY_CODE)

_BY_STATUS: dict[int | None, tuple[type[ServiceError], str]] = {
    401: _BY_CODE[400004],
    402: _BY_CODE[400002],
    403: (AuthenticationError, "This RunComfy token may not do that"),
    404: (RequestNotFound, "The service does not know this request or model"),
    408: (ServiceUnavailable, "The service gave up waiting for the call"),
    429: (RateLimited, "The service asks for fewer calls"),
}
_OWN_WORDS = ("error_code", "error_message")
_SIGNS_OF_AN_ERROR = (*_OWN_WORDS, "error", "detail")  # a lone `message` is how gateways speak


def json_object(response: httpx.Response) -> dict[str, Any] | None:
    """Return the body as a JSON object, or `None` where it is something else."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def says_no(body: dict[str, Any] | None) -> bool:
    """Whether a body is an error body: the service itself refused the submission, not a proxy before it."""
    return body is not None and any(body.get(name) for name in _SIGNS_OF_AN_ERROR)


def error_code(body: dict[str, Any] | None) -> int | str | None:
    """Return the body's top-level error code: a number where it is one; `None` where there is none."""
    code = (body or {}).get("error_code")
    if isinstance(code, str) and code.strip().isdigit():
        code = int(code)
    return code if isinstance(code, int | str) and code else None


def retry_after_seconds(response: httpx.Response, now: datetime | None = None) -> float | None:
    """Read `Retry-After` in either of its forms, seconds or an HTTP date (RFC 9110, 10.2.3); never negative."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def read_refusal(response: httpx.Response, *, request_id: str | None = None) -> ServiceError | None:
    """Return the error that an answer stands for, or `None` where it is a success.

    An answer of 2xx that carries an `error_code` or `error_message` is a refusal; a body that is not a JSON object is
    `ServiceUnavailable`, whatever its HTTP status below 400.

    Args:
        response: The answer.
        request_id: The request that was asked about, if one was. Then a 4xx without the service's own error body is
            `ServiceUnavailable` (429: `RateLimited`): something on the way spoke, and it knows nothing of the request.
    """
    body = json_object(response)
    code = error_code(body)
    status = response.status_code
    if response.is_success and body is not None and code is None and not body.get("error_message"):
        return None
    kind, sentence = _classify(status, code, has_body=body is not None)
    own = any((body or {}).get(name) for name in _OWN_WORDS)
    if request_id is not None and not own and 400 <= status < 500 and kind is not RateLimited:
        kind, sentence = (
            ServiceUnavailable,
            f"HTTP {status} without RunComfy's error body: something on the way said it",
        )
    said = next((body[name] for name in (*_SIGNS_OF_AN_ERROR[1:], "message") if body.get(name)), None) if body else None
    message = f"{sentence}. It said: {str(said)[:300]}" if said else f"{sentence}."
    return kind(
        message,
        http_status=status,
        error_code=code,
        retry_after_seconds=retry_after_seconds(response) if kind in (RateLimited, ServiceUnavailable) else None,
        request_id=request_id,
    )


def _classify(status: int, code: int | str | None, *, has_body: bool) -> tuple[type[ServiceError], str]:
    if code in _BY_CODE:
        return _BY_CODE[code]
    family = code // 1000 if isinstance(code, int) else None
    for known in (status, family):
        if known in _BY_STATUS:
            return _BY_STATUS[known]
    if status >= 500 or (family is not None and 500 <= family < 600):
        return ServiceUnavailable, f"The service failed with {code or status}"
    if status < 400 and not has_body:
        return ServiceUnavailable, "The service answered with something that is not its JSON"
    return RequestRejected, f"The service refused the call with {code or status}"
