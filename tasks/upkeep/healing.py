"""Carry out what was decided: states of runs that nobody works on are changed, and what crashed is run again.

Almost nothing is forced on the server: each change goes through Prefect's own rules
(`server/orchestration/core_policy.py`), which refuse to call a run crashed that has ended by then. What they would
allow (to schedule a run that somebody else runs again already) is excluded by reading its state once more. Only one
change is forced, since the rules exclude it: a suspended run that an automation marked as crashed, because its last
heartbeat came after it was suspended, is suspended again.

What Prefect (3.8) does with a run that is scheduled again after a crash:

- It is the same flow run: id, name, parameters, tags, job variables, the schedule or event that made it. A worker takes
  it as any other, and `run_count` is one more.
- Its body runs from the beginning. Task runs are new ones, beside the earlier ones (those that died with the process
  would stay Running indefinitely, so they are ended), and results do not survive a crash unless they are persisted;
  ours are not, for the journal knows more: what was paid for is waited for.
- `infrastructure_pid` stays that of the dead process, and then a cancel would wait 300 s for that to be ended
  (`BypassCancellingFlowRunsWithNoInfra`); so it is taken out, and a cancel takes effect at once.
- A paused deployment does not stop it, nor a paused schedule: so runs of a paused deployment are left alone.
- If its first process was alive after all: the process that ends last decides how the run ended, a heartbeat keeps it
  from being run again, and both find the same request in the journal. Nothing is paid twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import Cancelled, Crashed, Scheduled

from tasks.upkeep.facts import Facts
from tasks.upkeep.judging import Judgement, Liveness, RunAgain
from tasks.upkeep.marks import AGAIN_TAG, PERSON_TAG, again_message

__all__ = ["Healed", "Healing", "carry_out"]

_AT_ONCE = 8
_LONGEST_WHY = 300
_MOST_TASK_RUNS = 200
_NOT_FINAL = ["SCHEDULED", "PENDING", "RUNNING"]


@dataclass(frozen=True)
class Healing:
    """What was done about a run, or why it was not."""

    judgement: Judgement
    done: bool
    said: str
    """What its state says now, or why it was left as it is."""
    reported_before: bool = False
    """Whether it was reported to a person already."""


@dataclass(frozen=True)
class Healed:
    """What was found of the runs, and what was done about them."""

    facts: Facts | None
    """`None` if Prefect's API did not answer."""
    judgements: tuple[Judgement, ...] = ()
    changes: tuple[Healing, ...] = ()

    @property
    def suspects_due(self) -> datetime | None:
        """When the first run that has been silent for longer than usual counts as dead; `None` if there is none."""
        return min((each.dead_at for each in self.judgements if each.dead_at), default=None)

    @property
    def given_up(self) -> list[Judgement]:
        """The orders that a person has to decide about, including those that were ended just now."""
        judged = (*self.judgements, *(change.judgement for change in self.changes))
        return list({each.run.id: each for each in judged if each.verdict is Liveness.GIVEN_UP}.values())


async def carry_out(
    client: PrefectClient, judgements: Iterable[Judgement], bounds: RunAgain, *, by: str
) -> list[Healing]:
    """Change the states of zombies, run again what crashed, and mark what a person has to decide about.

    Safe to do twice, by two at the same time, and if a run changes its state in the meantime: then it is left as it is.

    Args:
        client: Speaks to the server.
        judgements: What was decided; nothing is done about those that need nothing.
        bounds: The bounds of running again.
        by: Who does it, for the states' messages.

    Returns:
        What was done, in the order of the judgements.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def change(judgement: Judgement) -> Healing:
        async with gate:
            try:
                return await _change(client, judgement, bounds, by)
            except ObjectNotFound:
                return Healing(judgement, False, "it is gone")
            except (PrefectException, httpx.HTTPError, OSError) as error:
                return Healing(judgement, False, f"Prefect's API did not take it ({type(error).__name__})")

    wanted = [judgement for judgement in judgements if judgement.verdict in _CHANGES]
    return list(await asyncio.gather(*map(change, wanted)))


async def _change(client: PrefectClient, judgement: Judgement, bounds: RunAgain, by: str) -> Healing:
    run = await client.read_flow_run(judgement.run.id)
    if _moved(run, judgement):
        return _left_as_it_is(run, judgement)
    return await _CHANGES[judgement.verdict](client, judgement, run, bounds, by)


def _moved(run: FlowRun, judgement: Judgement) -> bool:
    return run.state is None or run.state.id != judgement.run.state_id


def _left_as_it_is(run: FlowRun, judgement: Judgement) -> Healing:
    return Healing(judgement, False, f"it moved in the meantime, and is {run.state_name} now")


async def _crash(client: PrefectClient, judgement: Judgement, run: FlowRun, bounds: RunAgain, by: str) -> Healing:
    return await _set(client, judgement, Crashed(message=f"Crashed by {by}: {judgement.why}"))


async def _cancel(client: PrefectClient, judgement: Judgement, run: FlowRun, bounds: RunAgain, by: str) -> Healing:
    return await _set(client, judgement, Cancelled(message=f"Cancelled by {by}: {judgement.why}"))


async def _run_again(client: PrefectClient, judgement: Judgement, run: FlowRun, bounds: RunAgain, by: str) -> Healing:
    tags = sorted({*run.tags, AGAIN_TAG} - {PERSON_TAG})
    await _update(client, run, {"tags": tags, "infrastructure_pid": None})
    await _end_task_runs(client, run.id, f"Crashed with its flow run, says {by}")
    # Prefect would accept it for a run that somebody has started since, and then two processes would do the same.
    if _moved(now := await client.read_flow_run(run.id), judgement):
        return _left_as_it_is(now, judgement)
    why = judgement.run.message[:_LONGEST_WHY] or "nobody said why"
    message = again_message(max(judgement.run.crashes, 1), bounds.times, by, why)
    return await _set(client, judgement, Scheduled(name="AwaitingRetry", scheduled_time=judgement.at, message=message))


async def _put_back(client: PrefectClient, judgement: Judgement, run: FlowRun, bounds: RunAgain, by: str) -> Healing:
    rested = judgement.run.rested
    if rested is None:
        return Healing(judgement, False, "it did not rest")
    state = State[Any](
        type=rested.type,
        name=rested.name,
        message=f"Put back by {by}: {judgement.why}",
        state_details=rested.state_details.model_copy(update={"transition_id": None}),
    )
    return await _set(client, judgement, state, force=True)


async def _give_up(client: PrefectClient, judgement: Judgement, run: FlowRun, bounds: RunAgain, by: str) -> Healing:
    reported_before = PERSON_TAG in run.tags
    if not reported_before:
        await _update(client, run, {"tags": sorted({*run.tags, PERSON_TAG})})
        await _end_task_runs(client, run.id, f"Crashed with its flow run, says {by}")
    return Healing(judgement, True, f"Given up by {by}: {judgement.why}", reported_before)


async def _set(client: PrefectClient, judgement: Judgement, state: State[Any], *, force: bool = False) -> Healing:
    answer = await client.set_flow_run_state(judgement.run.id, state, force=force)
    if answer.status is SetStateStatus.ACCEPT:
        return Healing(judgement, True, state.message or "")
    reason = getattr(answer.details, "reason", None) or "no reason is known"
    return Healing(judgement, False, f"Prefect's server refused it: {reason}")


async def _update(client: PrefectClient, run: FlowRun, changes: dict[str, Any]) -> None:
    """Change fields of a run; Prefect's own method cannot take one out."""
    await client.request("PATCH", "/flow_runs/{id}", path_params={"id": run.id}, json=changes)


_Way = Callable[[PrefectClient, Judgement, FlowRun, RunAgain, str], Awaitable[Healing]]
_CHANGES: dict[Liveness, _Way] = {
    Liveness.PENDING_ZOMBIE: _crash,
    Liveness.RUNNING_ZOMBIE: _crash,
    Liveness.CANCELLING_ZOMBIE: _cancel,
    Liveness.AGAIN: _run_again,
    Liveness.RESTED: _put_back,
    Liveness.GIVEN_UP: _give_up,
}


async def _end_task_runs(client: PrefectClient, run: UUID, why: str) -> None:
    """Mark the task runs of a flow run whose process is gone as crashed, or they would stay Running indefinitely.

    At most 200 of them. Those that represent a subflow are left out: Prefect keeps them at its state.
    """
    left = {"state": {"type": {"any_": _NOT_FINAL}}, "subflow_runs": {"exists_": False}}
    found = await client.read_task_runs(
        flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [str(run)]}}),
        task_run_filter=TaskRunFilter.model_validate(left),
        limit=_MOST_TASK_RUNS,
    )
    for each in found:
        await client.set_task_run_state(each.id, Crashed(message=why), force=True)
