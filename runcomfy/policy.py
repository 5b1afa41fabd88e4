"""What a user may say of a run: what becomes of its request when it is interrupted, or when nobody knows of one."""

from __future__ import annotations

from typing import Literal

__all__ = ["OnInterrupt", "OnUncertain"]

OnInterrupt = Literal["ask", "cancel", "leave"]
"""`ask` whether a person or a time-out wanted it; or `cancel` the request always; or `leave` it always."""

OnUncertain = Literal["stop", "pay_again"]
"""What a run does that finds an uncertain submission: it stops, and a person decides; or it submits again, knowing that
both may be paid for."""
