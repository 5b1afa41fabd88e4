"""How a sandbox is set up: a value, with a default for everything."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["SandboxSettings"]


class SandboxSettings(BaseModel):
    """What a sandbox is like. The price and the balance are made up: the real ones are not published.

    Args:
        port: Where to listen on 127.0.0.1; 0 takes a free port.
        token: The only bearer token that is let in.
        slots: How many requests run at once.
        queue_seconds: How long a request stays in the queue at the least.
        run_seconds: How long a request runs at the least; rendering happens in that time.
        run_spread: How much that differs between requests: the standard deviation of its logarithm, so that 0.05 is
            about 5 percent. Half of them run for less than `run_seconds`. 0 is all alike.
        price_usd: What each accepted submission is charged. It is not given back on failure or cancellation.
        price_unit: What the price is for: an `output`, or a `second` of video, as the catalogue says it.
        opening_balance_usd: What the account holds at the start, and again after a reset.
        request_expiry_seconds: How long after its end a request is still known; `None` is indefinitely.
        tiny_videos: Render at a shorter side of 36 pixels, for tests with very many requests.
        output_bytes: Pad each video up to this size; it stays a valid MP4. 0 leaves it as it is.
        seed: What random faults and durations are drawn from; the same seed draws the same again.
        faults: Faults that strike from the start, each written `NAME[:ENDPOINT][=RATE]`.
        models: A folder with the catalogue entries of further models, a JSON file each.
        directory: Where rendered files go; `None` is a temporary folder that is removed at the end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    port: int = Field(default=0, ge=0, le=65535)
    token: str = Field(default="sandbox-token", min_length=1, repr=False)
    slots: int = Field(default=2, ge=1)
    queue_seconds: float = Field(default=0.0, ge=0)
    run_seconds: float = Field(default=3.0, ge=0)
    run_spread: float = Field(default=0.0, ge=0, le=3)
    price_usd: float = Field(default=0.25, ge=0)
    price_unit: Literal["output", "second"] = "output"
    opening_balance_usd: float = Field(default=1000.0, ge=0)
    request_expiry_seconds: float | None = Field(default=None, ge=0)
    tiny_videos: bool = False
    output_bytes: int = Field(default=0, ge=0)
    seed: int = 0
    faults: tuple[str, ...] = ()
    models: Path | None = None
    directory: Path | None = None
