"""What a user decides about a run: how long to wait, how often to poll, and what to do when there is a choice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Deadlines", "OnInterrupt", "OnUncertain", "Polling", "RunPolicy"]

OnInterrupt = Literal["ask", "cancel", "leave"]
"""`ask` whether a person or a time-out interrupted; or always `cancel` the request; or always `leave` it."""

OnUncertain = Literal["stop", "pay_again"]
"""What a run does about an uncertain submission: stop, and let a person decide; or submit again, even if both may be
paid for."""

_MARGIN = timedelta(minutes=15)
_LONGEST_SECONDS = 30 * 86400.0


class Deadlines(BaseModel):
    """How long to wait for a request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queue_timeout_seconds: float = Field(
        default=3600,
        gt=0,
        le=_LONGEST_SECONDS,
        title="Queue timeout (s)",
        description="Still queued after this long: cancelled.",
    )
    run_timeout_seconds: float = Field(
        default=3600,
        gt=0,
        le=_LONGEST_SECONDS,
        title="Run timeout (s)",
        description="Still running after this long: given up, since nothing can stop it; it may be billed.",
    )

    @property
    def signed_for(self) -> timedelta:
        """How long an image's URL is signed for: both timeouts and a margin, since it may be fetched at any time."""
        return timedelta(seconds=self.queue_timeout_seconds + self.run_timeout_seconds) + _MARGIN


class Polling(BaseModel):
    """How often to poll, and how many failed polls to tolerate.

    Where it is known how long such requests take, they are polled when they are due: rarely before, often then. Until
    that is known, they are polled at a fixed interval, since any other schedule is worse for some run times.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fraction: float = Field(
        default=0.05,
        gt=0,
        le=1,
        title="Share of the run time",
        description="A result that can be due is noticed within this share of its run time.",
    )
    default_interval_seconds: float = Field(
        default=2.0, gt=0, title="First interval (s)", description="Until it is known how long such requests take."
    )
    min_interval_seconds: float = Field(
        default=1.0, gt=0, title="Shortest interval (s)", description="Between two polls."
    )
    max_interval_seconds: float = Field(
        default=300.0, gt=0, title="Longest interval (s)", description="However long a request usually takes."
    )
    max_failures: int = Field(default=60, ge=1, title="Failed polls in a row", description="Give up after this many.")
    failure_window_seconds: float = Field(
        default=900, gt=0, title="Failing for (s)", description="Give up when no poll has succeeded for this long."
    )


@dataclass(frozen=True)
class RunPolicy:
    """What a user decided for every request of a run."""

    deadlines: Deadlines = Deadlines()
    polling: Polling = Polling()
    on_interrupt: OnInterrupt = "ask"
    on_uncertain: OnUncertain = "stop"
