"""The page of a run that ends without its video: what happened, whether it was paid for, and what to do now."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prefect import get_client
from prefect.artifacts import acreate_markdown_artifact
from prefect.context import FlowRunContext

from blocks import MediaStore
from runcomfy.errors import RunComfyError
from runcomfy.journal.advice import Advice, advise_on_error
from tasks.pages.artifacts import show
from tasks.pages.markdown import advised, code, store_options, text

__all__ = ["failure_shown"]


@asynccontextmanager
async def failure_shown(store: MediaStore, model_id: str | None) -> AsyncIterator[None]:
    """Show the error that ends a flow's body, as an artifact and a tag of its run.

    Args:
        store: Where the generation's journal and archive are.
        model_id: The model; `None` if only the journal may know it.
    """
    try:
        yield
    except RunComfyError as error:
        await show(_create_page(error, store, model_id))
        await show(_tag(type(error).__name__))
        raise


async def _create_page(error: RunComfyError, store: MediaStore, model_id: str | None) -> None:
    advice = advise_on_error(error, store_options(store), model_id)
    title = f"{type(error).__name__}. Paid for? {advice.paid}"
    await acreate_markdown_artifact(_page(error, advice, model_id), key="runcomfy-failure", description=title)


async def _tag(name: str) -> None:
    """Add a tag to the run, so that the runs page can be filtered by error."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    tags = {*context.flow_run.tags, name}
    async with get_client() as client:
        await client.update_flow_run(context.flow_run.id, tags=sorted(tags))


def _page(error: RunComfyError, advice: Advice, model_id: str | None) -> str:
    model_id = error.model_id or model_id
    facts = [
        ("Request", code(error.request_id) if error.request_id else ""),
        ("Generation", code(error.generation_key) if error.generation_key else ""),
        ("Model", code(model_id) if model_id else ""),
        ("Sent at", f"{text(str(error.sent_at)[:19].replace('T', ' '))} UTC" if error.sent_at else ""),
        ("Last state", text(error.last_state) if error.last_state else ""),
        ("Cost", f"{error.cost_usd} USD" if error.cost_usd is not None else ""),
    ]
    lines = [
        f"### {type(error).__name__}",
        f"**Reason:** {text(advice.happened)}",
        "\n".join(f"- **{text(field)}**: {text(wrong)}" for field, wrong in error.violations or []),
        f"**Paid for?** {advice.paid}",
        f"**What now?** {advised(advice)}",
        "\n".join(f"- {name}: {value}" for name, value in facts if value),
    ]
    return "\n\n".join(filter(None, lines))
