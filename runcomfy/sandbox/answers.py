"""Answers that are not what a caller hopes for: errors, pages, redirects."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from aiohttp import web

from runcomfy.sandbox.fault_registry import DueFault

__all__ = ["error_answer", "fault_answer"]

_TEXTS = {"text": '{"request_id": "cut o', "object": "{}", "message": '{"Message": "Forbidden"}'}
_HTML = "<!doctype html><title>Sandbox</title><h1>This page is not what you asked for.</h1>"


def error_answer(
    http_status: int, error_code: int, message: str, headers: dict[str, str] | None = None
) -> web.Response:
    """Return an error as the API words it."""
    body = {"error_code": error_code, "error_message": message}
    return web.json_response(body, status=http_status, headers=headers)


def fault_answer(due: DueFault, url: str, path: str) -> web.Response:
    """Return the answer of a fault of kind `answer`, to a call of `path` on the sandbox at `url`."""
    facts, headers = due.parameters, {}
    if "location" in facts:
        headers["Location"] = facts["location"].replace("{url}", url).replace("{path}", path)
    if (seconds := facts.get("retry_after")) is not None:
        then = datetime.now(UTC) + timedelta(seconds=seconds)
        headers["Retry-After"] = format_datetime(then, usegmt=True) if facts["as_date"] else str(seconds)
    http_status: int = facts["http_status"]
    if facts["body"] == "error":
        code = facts["error_code"] or http_status * 1000  # made up where none is documented
        return error_answer(http_status, code, f"The sandbox was told to: {due.fault.about}.", headers)
    if facts["body"] == "html":
        return web.Response(status=http_status, text=_HTML, content_type="text/html", headers=headers)
    text = _TEXTS.get(facts["body"], "")
    return web.Response(status=http_status, text=text, content_type="application/json", headers=headers)
