"""A deployment that is killed in many ways heals by itself; `tests/deployments/chaos.py` says how, and does more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deployments.chaos import Plan, chaos
from tests.deployments.chaos_faults import KINDS

pytestmark = pytest.mark.slow


def test_every_order_ends_well_whatever_is_killed(tmp_path: Path, measured: list[str]) -> None:
    """PostgreSQL, two workers, a fault of each kind: nothing is paid twice, lost or left open, and no slot leaks."""
    kinds = tuple(kind for kind in KINDS if kind != "killed while pending")  # noticing those takes longest
    plan = Plan(orders=14, minutes=1.5, scale=0.05, settle_minutes=20, kinds=kinds, while_pending=False, keep=tmp_path)

    report = chaos(plan)

    measured.extend(report.text.partition("\n--- ")[0].splitlines())
    assert report.wrong == [], report.text
