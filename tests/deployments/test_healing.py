"""A deployment that is killed in every way heals by itself; `tests/deployments/chaos.py` says how."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deployments.chaos import Plan, chaos

pytestmark = pytest.mark.slow


def test_every_order_ends_well_whatever_is_killed(tmp_path: Path, measured: list[str]) -> None:
    """PostgreSQL, two workers, one fault of each kind: nothing is paid twice, lost, left open or held by nobody."""
    plan = Plan(orders=14, minutes=1.5, scale=0.05, settle_minutes=15, keep=tmp_path)

    report = chaos(plan)

    measured.extend(report.text.splitlines())
    assert report.wrong == [], report.text
