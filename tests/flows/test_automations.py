"""The times of the automations, against those of Prefect's workers."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import EventTrigger
from prefect.settings.models.worker import WorkerSettings

from deployments.automations import reconcile_after_crash


def test_a_crash_of_the_reconcile_that_a_crash_started_starts_another() -> None:
    """By the time that a worker starts it, the pause in which crashes start nothing is over."""
    automation = reconcile_after_crash(uuid4())
    (action,) = automation.actions
    assert isinstance(automation.trigger, EventTrigger) and isinstance(action, RunDeployment)
    assert action.schedule_after is not None
    prefetch = timedelta(seconds=WorkerSettings.model_fields["prefetch_seconds"].default)

    assert action.schedule_after > automation.trigger.within + prefetch
