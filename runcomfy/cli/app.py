"""The commands, and those that query a request by its id or the account.

What a command needs (boto3, httpx) is imported only when it runs, so that `--help` is instant.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import App, Parameter

from runcomfy.api.responses import Answer, State, Status
from runcomfy.cli import environment
from runcomfy.cli.any_model import generate
from runcomfy.cli.batch import batch
from runcomfy.cli.catalogue import catalogue
from runcomfy.cli.doctor import doctor
from runcomfy.cli.erase import erase
from runcomfy.cli.generate import fetch, image_to_video, text_to_video
from runcomfy.cli.inbox import inbox
from runcomfy.cli.init import init
from runcomfy.cli.journal import journal_app
from runcomfy.cli.manifest import manifest_app
from runcomfy.cli.models import models_app
from runcomfy.cli.options import EPILOGUE, Json
from runcomfy.cli.output import EXIT_CODES, INTERRUPTED, STOPPED, UNEXPECTED, print_facts
from runcomfy.cli.reconcile import reconcile
from runcomfy.cli.report import report
from runcomfy.cli.review import review_app
from runcomfy.cli.verify import verify
from runcomfy.errors import NotFinished

__all__ = ["app"]

_MEANINGS = {
    0: "done",
    UNEXPECTED: "something unexpected",
    INTERRUPTED: "interrupted",
    STOPPED: "stopped by SIGTERM",
} | {code: meaning for _, code, meaning in reversed(EXIT_CODES)}
_HELP = """Make videos with RunComfy, and archive them in your bucket:
each is paid for once, whatever crashes.

It needs no Prefect and no server. So it has no limit of the account that it
shares with Prefect's runs, no page of a run, and no event: what has to be
shared is run as a deployment. The journal is the same: both may be used at
once. RunComfy's own command, `runcomfy`, is another one: it keeps no journal
and fills no bucket.

Environment:
  RUNCOMFY_API_TOKEN     your account's token (or RUNCOMFY_TOKEN)
  RUNCOMFY_BASE_URL      another service, such as the sandbox
  RUNCOMFY_OUTPUT_HOSTS  hosts that files may come from, comma-separated
  RUNCOMFY_BUCKET        what --bucket is otherwise
  RUNCOMFY_JOURNAL       what --journal is otherwise
  RUNCOMFY_JOURNAL_PATIENCE_SECONDS
                         after how long (180 without it) a submission that has
                         no answer is taken for that of a process that died
  RUNCOMFY_CONTACT_SHEETS
                         true: --contact-sheets, without saying it
  RUNCOMFY_ON_DEFECT     what --on-defect is otherwise: keep, set_aside or fail
  RUNCOMFY_PUBLIC_ENDPOINT_URL
                         the S3 server as RunComfy reaches it, if otherwise
  RUNCOMFY_BUCKET_ENCRYPTION, RUNCOMFY_BUCKET_KMS_KEY_ID, RUNCOMFY_BUCKET_ACL,
  RUNCOMFY_BUCKET_REQUESTER_PAYS, RUNCOMFY_BUCKET_OWNER
                         what the bucket's rules want: options of the same names
  RUNCOMFY_SIGN_CERTIFICATE, RUNCOMFY_SIGN_KEY or RUNCOMFY_SIGN_KMS_KEY,
  RUNCOMFY_SIGN_TSA_URL, RUNCOMFY_SIGN_REQUIRED
                         who signs what is archived (docs/content-credentials.md)
  AWS_PROFILE …          boto3's own variables, profiles and roles
  AWS_ENDPOINT_URL_S3    the S3 server, if it is not AWS
"""

app = App(
    name="prefect-runcomfy",
    help=_HELP,
    help_format="plaintext",
    help_epilogue="Exit codes:\n" + "\n".join(f"{code:>5}  {meaning}" for code, meaning in sorted(_MEANINGS.items())),
    version_flags=(),
    suppress_keyboard_interrupt=False,  # `main` says so, and ends with 130
)
app.command(image_to_video, help_epilogue=EPILOGUE)
app.command(text_to_video, help_epilogue=EPILOGUE)
app.command(generate, help_flags=(), help_epilogue=EPILOGUE)
app.command(models_app)
app.command(batch, help_epilogue=EPILOGUE)
app.command(manifest_app)
app.command(fetch, help_epilogue=EPILOGUE)
app.command(journal_app)
app.command(reconcile, help_epilogue=EPILOGUE)
app.command(review_app)
app.command(erase, help_epilogue=EPILOGUE)
app.command(inbox, help_epilogue=EPILOGUE)
app.command(verify, help_epilogue=EPILOGUE)
app.command(catalogue, help_epilogue=EPILOGUE)
app.command(report, help_epilogue=EPILOGUE)
app.command(doctor, help_epilogue=EPILOGUE)
app.command(init, help_epilogue=EPILOGUE)


@app.command(help_flags=(), help_epilogue=EPILOGUE)
def sandbox(*words: Annotated[str, Parameter(allow_leading_hyphen=True, help="See sandbox --help.")]) -> None:
    """Serve a local RunComfy on this machine, to try things out: `python -m runcomfy.sandbox`."""
    from runcomfy.sandbox.__main__ import app as sandbox_app

    sandbox_app(words, exit_on_error=False, print_error=False, result_action="return_value")


@app.command(help_epilogue=EPILOGUE)
def status(request_id: str, /, *, json: Json = False) -> None:
    """Show where a request is, and how it ended."""

    async def poll() -> tuple[Status, Answer | None]:
        async with environment.client() as client:
            seen = await client.status(request_id)
            may_be_over = seen.state.is_final or seen.state is State.UNKNOWN
            return seen, await client.result(request_id) if may_be_over else None

    seen, answer = asyncio.run(poll())
    facts = {
        "request_id": request_id,
        "state": str(answer.state if answer else seen.state),
        "queue_position": seen.queue_position,
        "outputs": len(answer.outputs) if answer else None,
        "cost_usd": answer.cost_usd if answer else None,
        "created_at": answer.created_at if answer else None,
        "finished_at": answer.finished_at if answer else None,
        "failure": answer.error if answer else None,
    }
    print_facts("Request", facts, as_json=json)


@app.command(help_epilogue=EPILOGUE)
def cancel(request_id: str, /, *, json: Json = False) -> None:
    """Cancel a request that is still in the queue; one that runs cannot be stopped (exit code 6)."""
    from runcomfy.api.requests import cancel as cancel_request

    async def ask() -> tuple[str | None, State]:
        async with environment.client() as client:
            outcome = (await cancel_request(client, request_id)).outcome
            return outcome, State.CANCELLED if outcome == "cancelled" else (await client.status(request_id)).state

    outcome, state = asyncio.run(ask())
    if state is State.IN_QUEUE:
        raise NotFinished(
            "The answer to the cancel was unclear, and the request is still in the queue: cancel it again.",
            request_id=request_id,
        )
    if state is not State.CANCELLED:
        raise NotFinished(
            "The request cannot be cancelled any more: it is running or done, and may be billed. Fetch what it makes.",
            request_id=request_id,
        )
    print_facts("Request", {"request_id": request_id, "outcome": outcome or "cancelled"}, as_json=json)


@app.command(help_epilogue=EPILOGUE)
def balance(*, json: Json = False) -> None:
    """Show the account's balance."""

    async def ask() -> float:
        async with environment.client() as client:
            return await client.balance_usd()

    print_facts("Account", {"balance_usd": asyncio.run(ask())}, as_json=json)
