"""What other teams' automations can start on: Prefect events about orders that crashed.

They are sent in the background and may be lost with the process; the runs' states and tags are the record.
"""

from __future__ import annotations

import logging

from prefect.events import emit_event

from tasks.upkeep.healing import Healing
from tasks.upkeep.judging import Liveness

logger = logging.getLogger(__name__)

__all__ = ["ORDER_EVENTS", "emit_order_event"]

ORDER_EVENTS = {Liveness.AGAIN: "runcomfy.order.run_again", Liveness.GIVEN_UP: "runcomfy.order.given_up"}
"""The events of an order that crashed, by what was decided."""


def emit_order_event(change: Healing) -> None:
    """Emit that an order was run again, or given up (only once). Its resource is the flow run.

    Args:
        change: What was done; other changes emit nothing.
    """
    run, event = change.judgement.run, ORDER_EVENTS.get(change.judgement.verdict)
    if event is None or not change.done or change.reported_before:
        return
    at = change.judgement.at
    try:
        emit_event(
            event,
            resource={"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name},
            payload={"reason": change.said, "crashes": run.crashes, "scheduled_for": at.isoformat() if at else None},
        )
    except Exception as error:  # an event must never break what it reports
        logger.warning("The event %s could not be sent (%s); the run goes on", event, type(error).__name__)
