"""Turn an HTTP answer into one of our errors: the one place that knows which code means what.

The codes are RunComfy's documented ones; which HTTP status goes with which code is not documented, so the code in the
body decides, and the HTTP status only where there is none.
"""

from __future__ import annotations

import email.utils
import re
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
    UncertainSubmission,
)

if TYPE_CHECKING:  # the command line reads states without it
    import httpx

__all__ = [
    "ANOTHER_ACCOUNT",
    "REPLICAS_LAG_SECONDS",
    "classify_submission",
    "error_code",
    "json_object",
    "read_refusal",
    "retry_after_seconds",
]

ANOTHER_ACCOUNT = 403001
"""The error code for a request that exists and belongs to someone else."""

REPLICAS_LAG_SECONDS = 60.0
"""For so long after a submission, a service that does not know the request may be a replica that lags behind."""

_BY_CODE: dict[int | str | None, tuple[type[ServiceError], str]] = {
    400001: (RequestRejected, "The service does not know this model id"),
    400002: (InsufficientBalance, "The RunComfy account has no balance: top it up"),
    400004: (AuthenticationError, "The RunComfy token or account was refused: check RUNCOMFY_API_TOKEN or the block"),
    ANOTHER_ACCOUNT: (RequestNotFound, "This request belongs to another RunComfy account"),
    404001: (RequestNotFound, "The service does not know this request: it is unknown, deleted or expired"),
}

_BY_STATUS: dict[int | None, tuple[type[ServiceError], str]] = {
    401: _BY_CODE[400004],
    402: _BY_CODE[400002],
    403: (AuthenticationError, "This RunComfy token may not do that"),
    404: (RequestNotFound, "The service does not know this request or model"),
    408: (ServiceUnavailable, "The service gave up waiting for the call"),
    429: (RateLimited, "The service asks for fewer calls"),
}
_OWN_FIELDS = ("error_code", "error_message")
_ERROR_FIELDS = (*_OWN_FIELDS, "error", "detail")  # a lone `message` is how gateways answer
_NOT_PROCESSED = frozenset({401, 402, 403, 404, 405, 411, 413, 414, 415, 421, 429, 431})
"""By HTTP itself (RFC 9110, 6585) a request with such an answer was not acted on, no matter who sent it."""
_NUMBER = re.compile(r"\s*[0-9]{1,18}\s*")
_LONGEST_CODE = 100
_LONGEST_WAIT_SECONDS = 31 * 24 * 3600.0
_REQUEST_URL = re.compile(r"/requests/([\w-]{1,200})/(?:status|result|cancel)(?:[?#]|$)")


def json_object(response: httpx.Response) -> dict[str, Any] | None:
    """Return the body as a JSON object, or `None` if it is something else."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def error_code(body: dict[str, Any] | None) -> int | str | None:
    """Return the body's top-level error code, as a number if it is written as one; `None` if there is none."""
    code = (body or {}).get("error_code")
    if isinstance(code, str):
        code = int(code) if _NUMBER.fullmatch(code) else code[:_LONGEST_CODE]
    return code if isinstance(code, int | str) and code else None


def retry_after_seconds(response: httpx.Response, now: datetime | None = None) -> float | None:
    """Parse `Retry-After` in either form, seconds or an HTTP date (RFC 9110, 10.2.3); 0 to a month."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _LONGEST_WAIT_SECONDS)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - (now or datetime.now(UTC))).total_seconds()), _LONGEST_WAIT_SECONDS)


def read_refusal(response: httpx.Response, *, request_id: str | None = None) -> ServiceError | None:
    """Return the error that an answer means, or `None` if it is a success.

    A 2xx that carries an `error_code` or `error_message` is a refusal; a body that is not a JSON object is
    `ServiceUnavailable`, whatever its HTTP status below 400.

    Args:
        response: The answer.
        request_id: The request that was asked about, if one was. Then a 4xx without the service's own error body is
            `ServiceUnavailable` (429: `RateLimited`): a proxy answered, which knows nothing of the request.
    """
    body = json_object(response)
    code = error_code(body)
    status = response.status_code
    if response.is_success and body is not None and code is None and not body.get("error_message"):
        return None
    kind, sentence = _meaning(status, code, has_body=body is not None)
    own = any((body or {}).get(name) for name in _OWN_FIELDS)
    if request_id is not None and not own and 400 <= status < 500 and kind is not RateLimited:
        kind, sentence = (
            ServiceUnavailable,
            f"HTTP {status} without RunComfy's error body: a proxy on the way answered",
        )
    said = next((body[name] for name in (*_ERROR_FIELDS[1:], "message") if body.get(name)), None) if body else None
    message = f"{sentence}. It said: {str(said)[:300]}" if said else f"{sentence}."
    return kind(
        message,
        http_status=status,
        error_code=code,
        retry_after_seconds=retry_after_seconds(response) if kind in (RateLimited, ServiceUnavailable) else None,
        request_id=request_id,
    )


def _meaning(status: int, code: int | str | None, *, has_body: bool) -> tuple[type[ServiceError], str]:
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


def classify_submission(response: httpx.Response) -> str | ServiceError | UncertainSubmission:
    """Return the request id of an accepted submission, or the error that its answer means.

    Surely refused is what HTTP itself says was not acted on (`_NOT_PROCESSED`), whatever the body; any other 4xx except
    408, which is a time-out, if the service's own error body says so; and a 2xx with one of the documented refusal
    codes, since which HTTP status goes with those is not documented. An answer that names a request is never refused.
    Everything else is uncertain, redirects too: a server that answers with 303 has done the work.
    """
    body = json_object(response)
    request_id = (body or {}).get("request_id")
    named = isinstance(request_id, str | int) and request_id and request_id is not True
    known = str(request_id).strip() or None if named else None
    refusal = read_refusal(response)
    if response.is_success and refusal is None and known:
        return known
    known = known or _named_by_url(body)
    status = response.status_code
    has_error = any((body or {}).get(name) for name in _ERROR_FIELDS)
    refused_by_status = status in _NOT_PROCESSED or (400 <= status < 500 and status != 408 and has_error)
    refused_by_code = response.is_success and error_code(body) in _BY_CODE
    if refusal is not None and not known and (refused_by_status or refused_by_code):
        return refusal
    answer = "an error" if refusal is not None and has_error else "nothing that names a request"
    return UncertainSubmission(
        f"The submission was answered with HTTP {status} and {answer}.",
        http_status=status,
        error_code=error_code(body),
        request_id=known,
    )


def _named_by_url(body: dict[str, Any] | None) -> str | None:
    """Return the request in the URLs of an answer that names none: at least it can be asked about."""
    for name in ("status_url", "result_url", "cancel_url"):
        url = (body or {}).get(name)
        if isinstance(url, str) and (found := _REQUEST_URL.search(url)):
            return found[1]
    return None
