"""Set up a Prefect server for this project: `python -m deployments.setup`.

It makes what deployments need and is not there: a work pool, the block types, the blocks with your account and your
bucket, and a limit of generations at once. Run it as often as you like: what is there stays as it is, and what differs
is shown, and changed with `--update` or a yes only.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.text import Text

from deployments.entry import require_server, run_entry
from deployments.setup.values import KEYS, Person, account_values, store_values
from runcomfy.cli.output import exit_code
from runcomfy.cli.streams import as_process
from runcomfy.errors import ConfigurationError, InvalidInput
from runcomfy.storage.bucket_settings import Acl, Encryption

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

    from deployments.setup.steps import Step

__all__ = ["app", "main"]

_AT_LEAST_ONE = Number(gte=1)
_STYLES = {"created": "green", "updated": "green", "differs": "yellow", "missing": "yellow", "skipped": "yellow"}

app = App(
    name="python -m deployments.setup",
    help=__doc__,
    help_epilogue="Secrets come from the environment: RUNCOMFY_API_TOKEN, which is asked for otherwise; and, where the "
    f"workers do not find keys of their own as boto3 does, {KEYS[0]} and {KEYS[1]}.",
    version_flags=(),
)


@app.default
def setup(
    *,
    pool: Annotated[
        str, Parameter(env_var="RUNCOMFY_WORK_POOL", help="The work pool; a new one is of type process.")
    ] = "runcomfy",
    pool_limit: Annotated[
        int | None,
        Parameter(validator=_AT_LEAST_ONE, help="Flow runs at once, dead ones counted; none for a new pool."),
    ] = None,
    credentials_block: Annotated[str, Parameter(help="The name of the RunComfyCredentials block.")] = "runcomfy",
    store_block: Annotated[str, Parameter(help="The name of the MediaStore block.")] = "videos",
    base_url: Annotated[
        str | None, Parameter(env_var="RUNCOMFY_BASE_URL", help="Another service, such as a sandbox.")
    ] = None,
    output_hosts: Annotated[
        str | None, Parameter(env_var="RUNCOMFY_OUTPUT_HOSTS", help="Hosts that files may come from, with commas.")
    ] = None,
    bucket: Annotated[
        str | None,
        Parameter(env_var="RUNCOMFY_BUCKET", help="Where videos are archived: s3://bucket/prefix, or a bucket."),
    ] = None,
    journal: Annotated[
        str | None, Parameter(env_var="RUNCOMFY_JOURNAL", help="Where the journal is kept; in the bucket by default.")
    ] = None,
    endpoint_url: Annotated[
        str | None, Parameter(env_var="AWS_ENDPOINT_URL_S3", help="The S3 server, if it is not AWS.")
    ] = None,
    public_endpoint_url: Annotated[str | None, Parameter(help="The same server as the internet sees it.")] = None,
    region: Annotated[
        str | None, Parameter(env_var=["AWS_REGION", "AWS_DEFAULT_REGION"], help="The bucket's region.")
    ] = None,
    encryption: Annotated[
        Encryption,
        Parameter(
            env_var="RUNCOMFY_BUCKET_ENCRYPTION",
            show_default=False,
            help="How the server encrypts what is written, if not as the bucket says.",
        ),
    ] = "",
    kms_key_id: Annotated[
        str | None,
        Parameter(env_var="RUNCOMFY_BUCKET_KMS_KEY_ID", help="The key for SSE-KMS: its id, ARN or alias."),
    ] = None,
    acl: Annotated[
        Acl,
        Parameter(
            env_var="RUNCOMFY_BUCKET_ACL",
            show_default=False,
            help="The ACL of what is written, in a bucket of another account.",
        ),
    ] = "",
    requester_pays: Annotated[
        bool,
        Parameter(
            env_var="RUNCOMFY_BUCKET_REQUESTER_PAYS",
            negative="",
            show_default=False,
            help="Agree to pay for the requests, as such a bucket wants.",
        ),
    ] = False,
    expected_bucket_owner: Annotated[
        str | None,
        Parameter(env_var="RUNCOMFY_BUCKET_OWNER", help="The AWS account that the bucket has to belong to: 12 digits."),
    ] = None,
    limit: Annotated[
        str, Parameter(help="The global concurrency limit, which a new account names.")
    ] = "runcomfy-generations",
    generations: Annotated[
        int | None, Parameter(validator=_AT_LEAST_ONE, help="Generations at once; 5 for a new limit.")
    ] = None,
    automations: Annotated[
        bool,
        Parameter(
            negative="", help="Also mark dead runs as crashed, and start reconcile after a crash, by automations."
        ),
    ] = False,
    add_model: Annotated[
        list[str] | None,
        Parameter(
            negative="",
            help="Also deploy a model with its own form, given as on its page; `generate` has to be deployed. "
            "Several: once for each.",
        ),
    ] = None,
    only_pool: Annotated[
        bool, Parameter(negative="", help="Make the work pool and its queue, and nothing else; needs no account.")
    ] = False,
    check: Annotated[
        bool,
        Parameter(
            negative="",
            help="Change nothing: say what is wrong on the server, and what this would make or change (exit code 3).",
        ),
    ] = False,
    update: Annotated[bool, Parameter(negative="", help="Change what differs, without asking.")] = False,
    no_prompt: Annotated[bool, Parameter(negative="", help="Ask nothing; for CI.")] = False,
) -> None:
    """Make what is missing on the Prefect server, and show what differs."""
    from blocks.prefect_api import checked_api_url

    checked_api_url()
    if add_model and only_pool:
        raise InvalidInput("--add-model needs an account, and --only-pool none: give one of the two.")
    models = _models_of(add_model or ())
    account = account_values(base_url, output_hosts)
    store = store_values(
        bucket,
        journal=journal,
        endpoint_url=endpoint_url,
        public_endpoint_url=public_endpoint_url,
        region_name=region,
        encryption=encryption,
        kms_key_id=kms_key_id,
        acl=acl,
        requester_pays=requester_pays,
        expected_bucket_owner=expected_bucket_owner,
    )
    person = Person(sys.stdin.isatty() and not no_prompt, update)
    from deployments.setup.steps import LOOK_ONLY, Allowed

    allowed = LOOK_ONLY if check else Allowed(person.confirm)

    async def work() -> list[Step]:
        from prefect import get_client

        from blocks import MediaStore, RunComfyCredentials
        from deployments.setup.automations import ensure_automations
        from deployments.setup.blocks import BlockPlan
        from deployments.setup.pool import ensure_upkeep_queue, ensure_work_pool
        from deployments.setup.steps import ensure_block_type, ensure_limit

        async def pool_steps(client: PrefectClient) -> list[Step]:
            return [
                await ensure_work_pool(client, pool, pool_limit, allowed),
                await ensure_upkeep_queue(client, pool, allowed),
            ]

        await require_server()
        async with get_client() as client:
            if only_pool:
                return await pool_steps(client)
            # Everything that is missing or wrong is reported before anything is made.
            plans = (
                await BlockPlan.read(client, RunComfyCredentials, credentials_block),
                await BlockPlan.read(client, MediaStore, store_block),
            )
            if allowed.make:
                if plans[0].stored is None and "api_token" not in account:
                    account["api_token"] = person.ask("the API token of RunComfy", "RUNCOMFY_API_TOKEN", secret=True)
                if plans[1].stored is None and "bucket" not in store:
                    store.update(store_values(person.ask("the bucket, s3://bucket/prefix", "RUNCOMFY_BUCKET")))
                if plans[0].stored is None:
                    account["concurrency_limit"] = limit
                for plan, given in zip(plans, (account, store), strict=True):
                    plan.wanted(given)
            steps = await pool_steps(client)
            steps += [await ensure_block_type(client, plan.kind, allowed) for plan in plans]
            for plan, given in zip(plans, (account, store), strict=True):
                steps.append(await plan.carry_out(client, given, allowed))
            steps.append(await ensure_limit(client, limit, generations, allowed))
            if models:
                from deployments.setup.models import ensure_models

                steps += await ensure_models(client, models, pool, (credentials_block, store_block), allowed)
            return steps + (await ensure_automations(client, pool, allowed) if automations else [])

    if check:
        return _check(pool, credentials_block, store_block, lambda: asyncio.run(work()))
    steps = asyncio.run(work())
    _print(steps)
    if not only_pool:
        skipped = {step.what for step in steps if step.outcome == "skipped"}
        healing = automations and "automation" not in skipped
        later = models if "deployment" in skipped else []
        _print_next(pool, credentials_block, store_block, limit, automations_too=not healing, models=later)
        if later:
            raise SystemExit(exit_code(ConfigurationError("A model could not be deployed.")))


def _models_of(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    from deployments.setup.models import models_of

    return models_of(names)


def _check(pool: str, credentials_block: str, store_block: str, plan: Callable[[], list[Step]]) -> None:
    """Say what is wrong on the server, and what setup would make or change; end with exit code 3 if there is any.

    Raises:
        SystemExit: something is broken, missing, or differs.
    """
    from deployments.doctor.checks import prefect_checks
    from runcomfy.cli.doctor import find, print_findings
    from runcomfy.doctor import Mark

    findings = find(prefect_checks(credentials_block, store_block, pool), quiet=False)
    server_answers = any(finding.name == "server" and finding.mark is not Mark.BROKEN for finding in findings)
    drift = [step for step in plan() if step.outcome in ("missing", "differs")] if server_answers else []
    broken = print_findings(findings, as_json=False)
    if drift:
        Console(highlight=False).print("\nWithout --check, this would be made or changed:", style="bold")
        _print_steps(drift)
    if broken or drift:
        raise SystemExit(exit_code(ConfigurationError("The server is not as it is to be.")))


def _print(steps: Sequence[Step]) -> None:
    _print_steps(steps)
    if any(step.outcome == "differs" for step in steps):
        text = "\nWhat differs was left as it is: --update changes it."
        Console(soft_wrap=True, highlight=False).print(text, style="yellow")


def _print_steps(steps: Sequence[Step]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    widths = [max(len(step.what) for step in steps), max(len(step.name) for step in steps)]
    for step in steps:
        line = Text(f"{step.outcome:<10}", style=_STYLES.get(step.outcome, "dim"))
        line.append(f"{step.what:<{widths[0]}}  {step.name:<{widths[1]}}  {step.detail}".rstrip(), style="default")
        console.print(line)


def _print_next(
    pool: str, account_block: str, store_block: str, limit: str, *, automations_too: bool, models: Sequence[str]
) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print("\nNext:", style="bold")
    programs = "" if shutil.which("prefect") else f"{os.path.relpath(Path(sys.executable).parent)}/"
    named = (("credentials-block", account_block, "runcomfy"), ("store-block", store_block, "videos"))
    options = (*named, ("limit", limit, "runcomfy-generations"))
    same_names = "".join(f" --{option} {name}" for option, name, default in options if name != default)
    described = "deployments/prefect.yaml"
    wanted = " --automations" * automations_too + "".join(f" --add-model {model}" for model in models)
    for command in (
        f"export RUNCOMFY_WORK_POOL={pool}",
        *([] if Path(described).exists() else [f"{programs}prefect-runcomfy init"]),
        f"{programs}prefect --no-prompt deploy --all --prefect-file {described}",
        *([f"{programs}python -m deployments.setup{wanted}{same_names}"] if wanted else []),
        f"{programs}python -m deployments.worker --pool {pool} --limit 10",
        f"{programs}python -m deployments.doctor --credentials-block {account_block} --store-block {store_block}",
    ):
        console.print(f"  {command}", markup=False)


def main(arguments: list[str] | None = None) -> int:
    """Set up, and return the process's exit code, as `prefect-runcomfy` has them."""
    return run_entry(app, arguments, interrupted="Interrupted; run it again, what was made stays.")


if __name__ == "__main__":
    sys.exit(as_process(main))
