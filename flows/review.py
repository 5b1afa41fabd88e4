"""A decision about a file that was set aside in, or none, and what waits for one out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Completed
from pydantic import Field
from slugify import slugify

from blocks import MediaStore
from flows.parameters import WrongParameter, left_out_is
from tasks.review import decide, show_review
from tasks.runtime.flow import flow
from tasks.runtime.naming import fact, flow_name

__all__ = ["review"]

_name = flow_name(
    lambda given: slugify(f"{fact(given['decision'])} {fact(given['file'])}", max_length=48), otherwise="review"
)


@flow(name="review", flow_run_name=_name)
async def review(
    store: MediaStore,
    decision: Annotated[Literal["list", "accept", "reject"], left_out_is("list")] = "list",
    file: Annotated[str, left_out_is("")] = "",
    reason: Annotated[str, left_out_is("")] = "",
    by: Annotated[str, left_out_is("")] = "",
    output: Annotated[Annotated[int, Field(ge=0)] | None, left_out_is(None)] = None,
    delete: Annotated[bool, left_out_is(False)] = False,
) -> State[int]:
    """Show the files that were set aside because they are suspect or damaged, or decide about one of them.

    Args:
        store: The bucket with the archive.
        decision: "list" shows what waits. "accept" brings a file to its usual place, and the event that it is archived
            is sent. "reject" leaves it below quarantine/; nothing is paid for again by itself.
        file: Which one: its generation's key or at least eight digits of it, as the list shows them, or its s3://
            address.
        reason: Why, in a sentence; it is recorded with the file.
        by: Who decides; it is recorded with the file. Empty: who started this run, where Prefect knows that.
        output: Which of the generation's files, from 0; needed where several of them wait.
        delete: With "reject", delete the file, its poster and its contact sheet; its provenance stays.

    Returns:
        How many files wait for a decision now.
    """
    said = ""
    if decision != "list":
        if not file.strip():
            raise WrongParameter(f"To {decision}, say which file: what waits is listed without a decision.")
        said = await decide(
            decision, file, store, by=by.strip() or _started_by(), output=output, reason=reason, delete=delete
        )
    count = await show_review(store, said)
    waiting = f"{count:,} file{'s' * (count != 1)} wait{'s' * (count == 1)} for a decision"
    return Completed(message=f"{said}. {waiting}" if said else waiting, data=count)


def _started_by() -> str:
    """Return the person who started the run, as Prefect's server knows it: its Cloud, or one that asks for a login."""
    context = FlowRunContext.get()
    run: Any = context.flow_run if context else None
    creator = run.created_by if run else None
    if creator is None or creator.type not in ("USER", "SERVICE_ACCOUNT") or not creator.display_value:
        raise WrongParameter("Say who decides, in `by`: this Prefect server does not know who started the run.")
    return str(creator.display_value)
