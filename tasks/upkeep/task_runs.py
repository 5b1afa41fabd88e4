"""Task runs that died with their process: said to be crashed, or they would be shown as running indefinitely."""

from __future__ import annotations

from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.states import Crashed

__all__ = ["end_task_runs"]

_MOST = 200
_NOT_FINAL = ["SCHEDULED", "PENDING", "RUNNING"]


async def end_task_runs(client: PrefectClient, run: UUID, why: str) -> None:
    """End the task runs of a flow run whose process is gone; of a thousand, the first 200.

    Those that stand for another flow run are left out: Prefect keeps them at that one's state.

    Args:
        client: Speaks to the server.
        run: The flow run.
        why: What their states are to say.
    """
    left = {"state": {"type": {"any_": _NOT_FINAL}}, "subflow_runs": {"exists_": False}}
    found = await client.read_task_runs(
        flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [str(run)]}}),
        task_run_filter=TaskRunFilter.model_validate(left),
        limit=_MOST,
    )
    for each in found:
        await client.set_task_run_state(each.id, Crashed(message=why), force=True)
