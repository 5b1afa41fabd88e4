"""When a request that goes on, and that nobody waits for, is worth the next look."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from runcomfy.journal.entry import Entry
from runcomfy.models import workload_of
from runcomfy.polling.forecast import RunTimes
from runcomfy.wire import State

__all__ = ["due_at"]

_LONGEST = timedelta(days=1)


def due_at(entry: Entry, state: State, run_times: RunTimes, now: datetime) -> datetime:
    """Return when it has most probably ended: five in six requests of its kind took no longer.

    One that is in the queue has all of that before it. One that takes longer than that is looked at again after a
    quarter of its age, as is one that is old and in the queue still; and one of which nothing is known, when it is half
    as old again. So whatever is stuck is looked at some dozens of times in all, not each few seconds for a day.

    Args:
        entry: The journal's entry, with its request.
        state: What the service said of the request.
        run_times: How long such requests run.
        now: The time of the look.
    """
    age = max(now - (entry.submitted_at or entry.created_at), timedelta())
    forecast = run_times.forecast(workload_of(entry.model_id, entry.inputs))
    if forecast is None:
        return now + min(age / 2, _LONGEST)
    likely = timedelta(seconds=math.exp(min(forecast.location + forecast.scale, 20)))
    left = max(likely, age / 4) if state is State.IN_QUEUE else likely - age
    return now + min(left if left > timedelta() else age / 4, _LONGEST)
