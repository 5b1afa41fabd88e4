"""When a paused pool counts as empty."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from deployments.drain.places import ActiveRun
from deployments.drain.progress import summary
from deployments.drain.waiting import Quiet

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


def run(deployment: str = "text-to-video", state: str = "Running", **facts: bool) -> ActiveRun:
    return ActiveRun(UUID(int=1), deployment, "rain", state, NOON, **facts)


ORDER = run()
UPKEEP = run("reconcile", upkeep=True)
BATCH = run("batch", waits_for_parts=True)


@pytest.mark.parametrize(
    ("looks", "empty_at"),
    [
        ([(0, []), (2, []), (4, []), (6, [])], 6),
        ([(0, [ORDER]), (2, []), (4, [ORDER]), (6, []), (8, []), (11, []), (12, [])], 12),
        ([(0, [ORDER]), (600, [ORDER])], None),
        ([(0, [BATCH]), (6, [BATCH])], 6),
        ([(0, [BATCH, ORDER]), (6, [BATCH]), (12, [BATCH])], 12),
        ([(0, [UPKEEP]), (58, [UPKEEP]), (60, [UPKEEP]), (65, [UPKEEP]), (66, [UPKEEP])], 66),
        ([(0, [ORDER]), (100, [UPKEEP]), (120, []), (126, [])], 126),
        ([(0, [UPKEEP, ORDER]), (60, [UPKEEP, ORDER]), (70, [UPKEEP]), (130, [UPKEEP]), (136, [UPKEEP])], 136),
        ([(0, []), (2, None), (6, []), (8, []), (12, [])], 12),
    ],
)
def test_a_pool_is_empty_after_six_quiet_seconds(
    looks: list[tuple[float, list[ActiveRun] | None]], empty_at: float | None
) -> None:
    """Nothing that is waited for ran for six seconds; a server that does not answer restarts the count."""
    quiet, found = Quiet(), []
    for at, active in looks:
        if active is None:
            quiet.unknown()
        elif quiet.seen(active, at):
            found.append(at)

    assert found[:1] == ([] if empty_at is None else [empty_at])


def test_a_line_says_what_is_running_and_since_when() -> None:
    """By deployment, each with its states and the oldest of its times."""
    line = summary([run(), run(state="Pending"), run(), UPKEEP])

    clock = f"{NOON.astimezone():%H:%M:%S}"
    assert line == (
        f"4 under way: reconcile: 1 Running since {clock}; text-to-video: 1 Pending, 2 Running since {clock}"
    )
    assert summary([]) == "nothing is under way"
