"""Runs and deployments for table tests, with defaults that a test may change."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from prefect.client.schemas.objects import StateType

from tasks.upkeep.facts import DeploymentFacts, Facts, RunFacts

__all__ = ["NOW", "ago", "facts", "run"]

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
ORDERS = UUID(int=1)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def run(state: StateType, seconds: float, **changes: Any) -> RunFacts:
    """Return a run that has been in its state for this long."""
    name = state.value.title()
    usual = RunFacts(uuid4(), "rain", ORDERS, uuid4(), state, name, ago(seconds), message="its machine died")
    if state is StateType.CRASHED:
        usual = replace(usual, crashes=1, first_crash=usual.since)
    return replace(usual, **changes)


def facts(*runs: RunFacts, beats_known: bool = True, **deployment: Any) -> Facts:
    """Return what is known on a server with one deployment of orders."""
    orders = replace(DeploymentFacts(ORDERS, "text-to-video/text-to-video", pool="runcomfy"), **deployment)
    return Facts(NOW, {ORDERS: orders}, runs, beats_known=beats_known)
