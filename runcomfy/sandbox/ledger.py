"""What the sandbox was asked, what it did, and what it was paid: the witness of every test about money."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["Counters", "RequestEntry", "RequestLedger"]


class Counters(BaseModel):
    """What is counted while the sandbox runs.

    `polls` are reads of status and result, and `busiest_second` is how many of them came within any one second;
    `connections` are all that were opened to the sandbox; `tokens_leaked` are downloads that carried an
    Authorization header.
    """

    model_config = ConfigDict(extra="forbid")

    submissions_received: int = 0
    submissions_accepted: int = 0
    usd_charged: float = 0.0
    cancelled: int = 0
    succeeded: int = 0
    failed: int = 0
    polls: int = 0
    busiest_second: int = 0
    connections: int = 0
    image_fetches: int = 0
    downloads: int = 0
    bytes_served: int = 0
    tokens_leaked: int = 0
    faults_struck: int = 0


class RequestEntry(BaseModel):
    """One accepted request. `state` is queued, running, succeeded, failed or cancelled; URLs come without a query."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    model: str
    state: str
    inputs: dict[str, Any]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class RequestLedger(Counters):
    """The counters at one moment, and every request in the order of acceptance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    balance_usd: float
    requests: tuple[RequestEntry, ...]
