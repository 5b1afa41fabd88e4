"""Everything that the chaos script starts: a server with its deployments, a service, an S3 server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.sandbox.objectstore import ObjectStore, running_object_store
from tests.deployments.chaos_api import Api
from tests.deployments.chaos_orders import PICTURE
from tests.deployments.chaos_processes import end_all
from tests.deployments.chaos_verdict import BUCKET, PREFIX
from tests.deployments.readme_stack import readme_workers, running_readme_stack
from tests.deployments.stack import ROOT, Stack, running_stack

__all__ = ["Database", "Stage", "set_up", "stage"]

TOKEN = "sandbox-chaos-51d0"
_DEPLOY = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "deployments/prefect.yaml"]

Database = Literal["postgres", "sqlite"]


@dataclass(frozen=True)
class Stage:
    """Everything that runs."""

    stack: Stack
    api: Api
    sandbox: Sandbox
    store: ObjectStore
    generations: int

    def upload(self, key: str, text: str | bytes) -> str:
        """Put a file beside the images, and return its URI."""
        client = self.store.session().client("s3", endpoint_url=self.store.endpoint_url)
        client.put_object(Bucket="images", Key=key, Body=text.encode() if isinstance(text, str) else text)
        return f"s3://images/{key}"


@contextlib.contextmanager
def stage(database: Database, generations: int, seed: int = 0) -> Iterator[Stage]:
    """Start everything: deployments, blocks and automations included; end all processes at the end."""
    slots = max(1, generations * 3 // 4)  # so that there is a queue
    settings = SandboxSettings(token=TOKEN, slots=slots, run_seconds=1, tiny_videos=True, seed=seed)
    with contextlib.ExitStack() as parts:
        store = parts.enter_context(running_object_store())
        sandbox = parts.enter_context(Sandbox(settings))
        stack = parts.enter_context(running_stack(workers=2) if database == "postgres" else running_readme_stack())
        parts.callback(lambda: end_all(stack.api_url))
        parts.callback(stack.stop_all)
        api = Api(stack.api_url, stack.environment("worker1").get("PREFECT_API_AUTH_STRING", ""))
        made = Stage(stack, api, sandbox, store, generations)
        if database == "sqlite":
            set_up(made)
            stack.run("worker1", command=_DEPLOY)
        set_up(made)
        stack.run("worker1", command=_DEPLOY)  # the forms show the blocks from now on
        for name in readme_workers() if database == "sqlite" else ():
            stack.start(name)
        made.upload(PICTURE.removeprefix("s3://images/"), (ROOT / "deployments" / "demo.jpg").read_bytes())
        yield made


def set_up(made: Stage, *options: str) -> str:
    """Create blocks, limit and automations, as a person does."""
    command = ["python", "-m", "deployments.setup", "--no-prompt", "--automations", *options]
    command += ["--bucket", f"s3://{BUCKET}/{PREFIX}", "--generations", str(made.generations)]
    given = {
        "RUNCOMFY_API_TOKEN": TOKEN, "RUNCOMFY_BASE_URL": made.sandbox.url, "RUNCOMFY_OUTPUT_HOSTS": made.sandbox.host,
        "AWS_ENDPOINT_URL_S3": made.store.endpoint_url, "AWS_REGION": "us-east-1",
        "RUNCOMFY_STORE_ACCESS_KEY_ID": made.store.access_key,
        "RUNCOMFY_STORE_SECRET_ACCESS_KEY": made.store.secret_key,
    }  # fmt: skip
    return made.stack.run("worker1", cwd=ROOT, command=command, **given)
