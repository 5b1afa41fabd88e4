"""A run that ends without its video says so on its page: what happened, whether it was paid for, and what to do now."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prefect import get_client
from prefect.artifacts import acreate_markdown_artifact
from prefect.context import FlowRunContext

from blocks import MediaStore
from runcomfy import errors
from runcomfy.commands import typed
from runcomfy.errors import RunComfyError
from runcomfy.models import short_name
from tasks.artifacts import show
from tasks.command_line import archive_options, journal_options
from tasks.markdown import code, console, text

__all__ = ["failure_shown"]

_NO, _PERHAPS = "No.", "Not known."
_UNBILLED = f"{_PERHAPS} RunComfy does not say whether such requests are billed."
_MADE = "Yes, and the video was made; to fetch it costs nothing more."
_GOES_ON = "It may be: the request goes on without this run. To collect it costs nothing more."
_COLLECT = "Nothing has to be sent again: run the same inputs again, let `reconcile` collect it, or fetch it."
_PAY_AGAIN = "Change what the reason names, or run it again as it is; either makes and pays for another request."


@asynccontextmanager
async def failure_shown(store: MediaStore, model_id: str | None) -> AsyncIterator[None]:
    """Show the error with which a flow's body ends, as an artifact and a tag of its run.

    Args:
        store: Where the generation's journal and archive are.
        model_id: The model; `None` where only the journal may know it.
    """
    try:
        yield
    except RunComfyError as error:
        await show(_page_made(error, store, model_id))
        await show(_tag(type(error).__name__))
        raise


async def _page_made(error: RunComfyError, store: MediaStore, model_id: str | None) -> None:
    title = f"{type(error).__name__}. Paid for? {_paid(error)}"
    await acreate_markdown_artifact(_page(error, store, model_id), key="runcomfy-failure", description=title)


async def _tag(name: str) -> None:
    """Add a tag to the run, so that the runs page can be filtered by what went wrong."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    tags = {*context.flow_run.tags, name}
    async with get_client() as client:
        await client.update_flow_run(context.flow_run.id, tags=sorted(tags))


def _page(error: RunComfyError, store: MediaStore, model_id: str | None) -> str:
    model_id = error.model_id or model_id
    reason = (error.cause if isinstance(error, errors.UncertainSubmission) else "") or error.message
    facts = [
        ("Request", code(error.request_id) if error.request_id else ""),
        ("Generation", code(error.generation_key) if error.generation_key else ""),
        ("Model", code(model_id) if model_id else ""),
        ("Sent at", f"{text(str(error.sent_at)[:19].replace('T', ' '))} UTC" if error.sent_at else ""),
        ("Last state", text(error.last_state) if error.last_state else ""),
        ("Cost", f"{error.cost_usd} USD" if error.cost_usd is not None else ""),
    ]
    now, commands = _advice(error, store, model_id)
    lines = [
        f"### {type(error).__name__}",
        f"**Reason:** {text(reason)}",
        "\n".join(f"- **{text(field)}**: {text(wrong)}" for field, wrong in error.violations or []),
        f"**Paid for?** {_paid(error)}",
        f"**What now?** {now}",
        console(*commands) if commands else "",
        "\n".join(f"- {name}: {value}" for name, value in facts if value),
    ]
    return "\n\n".join(filter(None, lines))


def _paid(error: RunComfyError) -> str:
    match error:
        case errors.UncertainSubmission():
            return "Perhaps: nobody knows whether it was accepted."
        case errors.GenerationFailed() | errors.GenerationCancelled() | errors.QueueTimeout():
            return _UNBILLED
        case errors.NoOutput() | errors.RequestNotFound() if error.request_id:
            return "Yes, or it may be: the request was accepted."
        case errors.ArchiveError():
            return _MADE
        case errors.RunComfyError() if error.request_id:
            return _GOES_ON
        case errors.StorageError():
            return "Not by this run; an earlier one may have paid, which the bucket would tell."
        case _:
            return f"{_NO} Nothing was accepted by RunComfy."


def _advice(error: RunComfyError, store: MediaStore, model_id: str | None) -> tuple[str, list[str]]:
    """Return what to do now, as a sentence in Markdown, and the commands for it."""
    key = str(error.generation_key or "KEY")[:12]
    request_id = error.request_id or "REQUEST_ID"
    release = typed("journal", "release", key, *journal_options(store))
    model = ["--model", short_name(model_id)] if model_id else []
    fetch = [typed("fetch", request_id, *model, *archive_options(store))]
    match error:
        case errors.UncertainSubmission():
            return (
                "Look in RunComfy's dashboard. If the request is there, adopt it; if not, release the generation, and "
                "the next run submits it. Until then, to run it again sends nothing.",
                [typed("journal", "adopt", key, request_id, *archive_options(store)), release],
            )
        case errors.GenerationFailed():
            return _PAY_AGAIN, []
        case errors.GenerationCancelled() | errors.QueueTimeout():
            return "It was cancelled while it was queued. Run it again if it is still wanted.", []
        case errors.NoOutput():
            return "Look at the request in RunComfy's dashboard; if it has a file after all, fetch it.", fetch
        case errors.RequestNotFound() if error.request_id:
            return (
                "RunComfy does not know the request any more, or not for this account. Look at the account; if the "
                "request is lost, release the generation, and the next run submits it again.",
                [release],
            )
        case errors.HostNotAllowed():
            return "If you trust that host, add it to the output hosts of the credentials block, and fetch it.", fetch
        case errors.ArchiveConflict():
            return "Move away what stands at the key, or change the key template, and fetch it.", fetch
        case errors.ArchiveError() | errors.WaitError():
            return _COLLECT, fetch
        case RunComfyError() if error.request_id:
            return f"Mend what the reason names. {_COLLECT}", fetch
        case errors.BudgetReached():
            return "Raise the budget, or leave it at that.", []
        case RunComfyError(retryable=True):
            return "Run it again later, as it is.", []
        case errors.InsufficientBalance():
            return "Top up the RunComfy account, and run it again.", []
        case errors.AuthenticationError():
            return "Mend the token in the credentials block, and run it again.", []
        case _:
            return "Mend what the reason names, and run it again.", []
