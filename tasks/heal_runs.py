"""Heal the runs of the deployments: end those that nobody works on, and run crashed orders again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from logging import Logger, LoggerAdapter
from typing import Any, Literal, TypeAlias

import httpx
from prefect import get_client, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import PrefectException

from runcomfy.telemetry import activation, metrics
from tasks.upkeep.events import emit_order_event
from tasks.upkeep.healing import Healed, carry_out
from tasks.upkeep.judging import Judgement, Liveness, RunAgain, beat_seconds, judge, judge_all
from tasks.upkeep.reading import read_facts, read_runs

__all__ = ["heal", "heal_runs", "still_silent"]

_Outcome: TypeAlias = Literal["run_again", "given_up", "crashed", "cancelled"]
_COUNTED_AS: dict[Liveness, _Outcome] = {
    Liveness.AGAIN: "run_again",
    Liveness.GIVEN_UP: "given_up",
    Liveness.PENDING_ZOMBIE: "crashed",
    Liveness.RUNNING_ZOMBIE: "crashed",
    Liveness.CANCELLING_ZOMBIE: "cancelled",
}

_Logger: TypeAlias = Logger | LoggerAdapter[Any]

_WATCHED_BEATS = 1.5


@task(task_run_name="look after the runs", cache_policy=NO_CACHE)
async def heal_runs(bounds: RunAgain) -> Healed:
    """End runs that nobody works on, run crashed ones again, and mark those that a person has to decide about.

    A silent run is watched for another one and a half of its heartbeats before it is marked as crashed: if the server
    was unavailable, it has missed the heartbeats of all runs.

    Args:
        bounds: The bounds of running again.

    Returns:
        What was found and done; nothing if Prefect's API does not answer, and the log says why.
    """
    async with get_client() as client:
        return await heal(client, bounds, by=f"reconcile (flow run {runtime.flow_run.name})", logger=get_run_logger())


async def heal(client: PrefectClient, bounds: RunAgain, *, by: str, logger: _Logger) -> Healed:
    """Do what the task `heal_runs` does.

    Args:
        client: Prefect's API.
        bounds: The bounds of running again.
        by: Who does it, for the states' messages.
        logger: Gets a line for everything that was done.
    """
    try:
        healed = await _heal(client, bounds, by=by)
    except (PrefectException, httpx.HTTPError, OSError) as error:
        logger.error(
            "Prefect's API did not say how the runs are (%s); the next reconcile asks again", type(error).__name__
        )
        return Healed(None)
    for change in healed.changes:
        judgement = change.judgement
        level = logger.warning if change.done and not change.reported_before else logger.info
        level("Run %s (%s, %s): %s", judgement.run.name, judgement.run.id, judgement.verdict, change.said)
        outcome = _COUNTED_AS.get(judgement.verdict)
        if outcome and change.done and not change.reported_before:
            activation.turn_on()
            metrics.healed(outcome)
        emit_order_event(change)
    return healed


async def _heal(client: PrefectClient, bounds: RunAgain, *, by: str) -> Healed:
    facts = await read_facts(client)
    judgements = judge_all(facts, bounds)
    silent = [each for each in judgements if each.verdict is Liveness.RUNNING_ZOMBIE]
    changes = await carry_out(client, [each for each in judgements if each not in silent], bounds, by=by)
    if silent:
        await asyncio.sleep(_WATCHED_BEATS * max(beat_seconds(each.run, facts) for each in silent))
        changes += await carry_out(client, await still_silent(client, silent, facts.at), bounds, by=by)
    ended = [change.judgement.run.id for change in changes if change.done and change.judgement.verdict in _CRASHED_NOW]
    if ended:
        crashed = await read_runs(client, ended, facts.at)
        changes += await carry_out(client, [judge(run, facts, bounds) for run in crashed], bounds, by=by)
    return Healed(facts, tuple(judgements), tuple(changes))


_CRASHED_NOW = (Liveness.PENDING_ZOMBIE, Liveness.RUNNING_ZOMBIE)


async def still_silent(client: PrefectClient, silent: Sequence[Judgement], at: datetime) -> list[Judgement]:
    """Return the silent runs that have neither changed their state nor sent a heartbeat since they were judged.

    Args:
        client: Prefect's API.
        silent: Runs that were silent.
        at: The time, approximately, by the server's clock.
    """
    before = {each.run.id: each for each in silent}
    again = await read_runs(client, before, at)
    return [
        before[run.id]
        for run in again
        if run.state_id == before[run.id].run.state_id and run.last_heartbeat == before[run.id].run.last_heartbeat
    ]
