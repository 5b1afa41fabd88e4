"""Answers of the service, whole and changed: JSON of any shape, cut, damaged, nested too deep, or none.

Each call's answer is read by the client itself; only the connection is missing.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Coroutine
from typing import Any

import httpx

from runcomfy.api.client import RunComfyClient
from runcomfy.models.pins import Pin, class_of

__all__ = ["CALLS", "GOOD", "STATUSES", "answering", "body_of"]

ID = "3f2c9a"
GOOD: tuple[dict[str, Any], ...] = (
    {"request_id": ID, "status_url": "https://x/s", "result_url": "https://x/r", "cancel_url": "https://x/c"},
    {"request_id": ID, "status": "in_queue", "queue_position": 3},
    {"request_id": ID, "status": "succeeded", "output": {"video": "https://a.runcomfy.net/1.mp4"}, "cost": 0.25,
     "created_at": "2026-11-28T10:00:00Z", "finished_at": "2026-11-28T10:01:00Z"},
    {"request_id": ID, "status": "completed", "output": {"images": [{"url": "https://a.runcomfy.net/1.png"}]}},
    {"request_id": ID, "status": "failed", "error": {"type": "x", "message": "y", "nested": [1, {"a": None}]}},
    {"request_id": ID, "status": "completed", "outcome": "cancelled"},
    {"error_code": 400002, "error_message": "no balance"},
    {"balance_usd": 12.5, "currency": "USD"},
    {"model_id": "a/b", "input_schema": {"type": "object", "required": ["prompt"], "properties": {
        "prompt": {"type": "string", "default": ""}, "n": {"type": "integer", "minimum": 1, "enum": [1, 2]}}},
     "base_price_usd": 0.1, "categories": ["text-to-video"]},
    {"models": [{"model_id": "a/b"}], "total": 1},
)  # fmt: skip
LEAVES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1e400, 10**400, 0.1, float("nan"), "", " ", "\0", "\ud800", "x" * 5000, "https://[", "//",
    "\u00b2", "9" * 5000, "s3://b/k", "2026-99-99", [], {}, [None], {"": ""}, [[[[]]]], "9" * 400,
)  # fmt: skip
STATUSES = (200, 201, 202, 204, 301, 400, 401, 402, 403, 404, 408, 409, 422, 429, 500, 502, 503, 504)


def mutated(dice: random.Random, value: Any, depth: int = 0) -> Any:
    """Return a value with some of its parts replaced, left out, repeated, or nested too deep."""
    if dice.random() < 0.12:
        return dice.choice(LEAVES)
    if isinstance(value, dict):
        kept = {name: mutated(dice, part, depth + 1) for name, part in value.items() if dice.random() < 0.93}
        return kept | (
            {dice.choice([*value, "error", "output", "$ref"]): dice.choice(LEAVES)} if dice.random() < 0.2 else {}
        )
    if isinstance(value, list):
        return [mutated(dice, part, depth + 1) for part in value for _ in range(dice.choice((0, 1, 1, 1, 2)))]
    return value


def body_of(dice: random.Random) -> bytes:
    """Return the bytes of an answer: JSON of any shape, cut, damaged, too deep, or none."""
    text = json.dumps(mutated(dice, dice.choice(GOOD)))
    match dice.randrange(12):
        case 0:
            return text.encode()[: dice.randrange(len(text) + 1)]
        case 1:
            return b"[" * dice.choice((5, 900, 100_000))
        case 2:
            return dice.randbytes(dice.randrange(200))
        case 3:
            return b"<html><h1>502 Bad Gateway</h1></html>"
        case 4:
            return text.encode("utf-16")
    return text.encode()


def answering(dice: random.Random) -> httpx.MockTransport:
    def answer(_: httpx.Request) -> httpx.Response:
        kind = dice.choice(("application/json", "text/html", "", "application/json; charset=utf-99"))
        headers = {"content-type": kind, "retry-after": dice.choice(("", "3", "-1", "nan", "1e99", "soon"))}
        return httpx.Response(dice.choice(STATUSES), content=body_of(dice), headers=headers)

    return httpx.MockTransport(answer)


async def pinned(client: RunComfyClient) -> None:
    class_of(Pin.from_entry(await client.model("a/b"), "x"))


CALLS: dict[str, Callable[[RunComfyClient], Coroutine[Any, Any, Any]]] = {
    "status": lambda client: client.status(ID),
    "result": lambda client: client.result(ID),
    "cancel": lambda client: client.cancel(ID),
    "balance": lambda client: client.balance_usd(),
    "model": pinned,
    "models": lambda client: client.models(search="x"),
}
