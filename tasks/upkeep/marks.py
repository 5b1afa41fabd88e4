"""What `reconcile` leaves on runs that it changes, so that people and the next `reconcile` recognise them.

And how it recognises what is ours, itself included.
"""

from __future__ import annotations

import re
from typing import Any

from prefect.client.schemas.objects import State, StateType

__all__ = [
    "AGAIN_TAG",
    "FORCED",
    "NOT_AGAIN_TAG",
    "OURS_TAG",
    "PERSON_TAG",
    "RECONCILE",
    "again_message",
    "has_crashed",
    "is_by_a_person",
    "is_by_an_automation",
]

OURS_TAG = "runcomfy"
"""The tag of all deployments that are ours, and so of their runs."""
RECONCILE = "reconcile"
"""The name of its function: of our deployments, the one that runs this function is that of `reconcile`."""
AGAIN_TAG, PERSON_TAG = "run-again", "needs-a-person"
"""Tags of a run that was run again, and of one that was given up."""
NOT_AGAIN_TAG = "not-again"
"""The crashed runs of a deployment with this tag are left to people."""
_WITHOUT_SERVER = re.compile(
    r"(Validation of flow parameters failed with error|Flow run encountered an exception):? +([\w.]+\.)?"
    r"((Connect|Read|Write|Close)Error\b|(Connect|Read|Write|Pool)Timeout\b|(Local|Remote)ProtocolError\b"
    r"|(Prefect)?HTTPStatusError: Server error '5)"
)
"""What Prefect's engine (3.9) says of a run that failed since Prefect's own API did not answer: a run reads its
blocks there when it begins. Errors of the service and the store have names of ours by then."""
_PLACE_LOST = "Deployment concurrency slot lost"
"""What Prefect (3.9) says of a run that it cancels as it begins, since its lease is gone and no place is free:
such as after a restart of a server that keeps leases in its memory (`ValidateDeploymentConcurrencyAtRunning`)."""
FORCED = "Forced by the automation"
"""How the message of a state begins that one of our automations sets."""
_OURS = "Run again ("
_STARTS = ("Scheduled", "AwaitingRetry")


def again_message(number: int, most: int, by: str, why: str) -> str:
    """Return the message for the state of a run that is run again.

    Args:
        number: How often it is run again with this time.
        most: How often at most.
        by: Who does it.
        why: What its state said.
    """
    return f"{_OURS}{number} of {most}) by {by}, since it crashed: {why}"


def has_crashed(state_type: StateType | None, message: str | None) -> bool:
    """Whether a state is a crash, also two that Prefect names otherwise, though nobody meant them and nothing is wrong.

    Failed: Prefect's own server did not answer the run. Cancelled: its place in its deployment's limit was lost while
    its process began.

    Args:
        state_type: The state's type.
        message: What it says.
    """
    if state_type is StateType.FAILED:
        return _WITHOUT_SERVER.match(message or "") is not None
    if state_type is StateType.CANCELLED:
        return (message or "").startswith(_PLACE_LOST)
    return state_type is StateType.CRASHED


def is_by_an_automation(message: str) -> bool:
    """Whether one of our automations marked a run as crashed for its silence.

    Args:
        message: What its state says.
    """
    return message.startswith(FORCED)


def is_by_a_person(state: State[Any]) -> bool:
    """Whether a state is the start of a run by somebody: a new order, or one that is run again by hand.

    Prefect's own waits have other names (Late, AwaitingConcurrencySlot, Resuming), and its own retry has no message.
    """
    if state.type is not StateType.SCHEDULED or state.name not in _STARTS:
        return False
    message = state.message or ""
    return not message.startswith(_OURS) and (state.name == "Scheduled" or bool(message))
