"""When runs last sent a heartbeat, according to Prefect's events.

A run sends an event every `PREFECT_FLOWS_HEARTBEAT_FREQUENCY` seconds (Prefect 3.9: 180 unless set, 30 at least), at
its start for the first time. They are counted by run (`/events/count-by/resource`), which returns the time of each
run's first and last one, so that one request serves 200 runs. Events are kept for a week unless the server is set
otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient

from tasks.upkeep.facts import RunFacts

__all__ = ["Beats", "any_heartbeat", "read_heartbeats", "with_heartbeats"]

_EVENT = "prefect.flow-run.heartbeat"
_PAGE = 200
_WITHIN = timedelta(hours=6)
_CLOCKS_DIFFER = timedelta(seconds=5)


@dataclass(frozen=True)
class Beats:
    """The heartbeats of one run within the last hours."""

    count: int
    first: datetime
    last: datetime


async def read_heartbeats(client: PrefectClient, runs: Iterable[UUID], at: datetime) -> dict[UUID, Beats]:
    """Return the heartbeats of each run; those that sent none, or whose server keeps none, are left out.

    Args:
        client: Speaks to the server.
        runs: The runs.
        at: Now, by the server's clock.
    """
    chosen, found = [f"prefect.flow-run.{run_id}" for run_id in runs], dict[UUID, Beats]()
    for start in range(0, len(chosen), _PAGE):
        answer = await client.request(
            "POST",
            "/events/count-by/{countable}",
            path_params={"countable": "resource"},
            json={
                "filter": {
                    "occurred": _lately(at),
                    "event": {"name": [_EVENT]},
                    "resource": {"id": chosen[start : start + _PAGE]},
                },
                "time_unit": "hour",
                "time_interval": 1,
            },
        )
        for counted in answer.json():
            first, last = (datetime.fromisoformat(counted[name]) for name in ("start_time", "end_time"))
            found[UUID(counted["value"].rpartition(".")[2])] = Beats(int(counted["count"]), first, last)
    return found


async def any_heartbeat(client: PrefectClient, at: datetime) -> bool:
    """Whether the server has a heartbeat of any flow run, which shows that heartbeats arrive and are kept.

    Args:
        client: Speaks to the server.
        at: Now, by the server's clock.
    """
    answer = await client.request(
        "POST", "/events/filter", json={"filter": {"occurred": _lately(at), "event": {"name": [_EVENT]}}, "limit": 1}
    )
    return bool(answer.json()["events"])


def _lately(at: datetime) -> dict[str, str]:
    return {"since": (at - _WITHIN).isoformat(), "until": (at + _WITHIN).isoformat()}


def with_heartbeats(run: RunFacts, beats: Beats | None) -> RunFacts:
    """Return a run with its last heartbeat, and with how far apart they are if all are of its present state.

    Args:
        run: The run.
        beats: Its heartbeats.
    """
    if beats is None:
        return run
    of_this_state = beats.count > 1 and beats.first >= run.since - _CLOCKS_DIFFER
    gap = (beats.last - beats.first).total_seconds() / (beats.count - 1) if of_this_state else None
    return replace(run, last_heartbeat=beats.last, beat_seconds=gap)
