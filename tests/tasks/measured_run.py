"""A process that runs flows, as a worker starts one: its settings are in its environment and its arguments."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr

from blocks import MediaStore, RunComfyCredentials
from flows.batch import batch
from flows.image_to_video import image_to_video
from flows.parameters import ImageSource
from flows.reconcile import reconcile
from flows.text_to_video import text_to_video
from runcomfy.errors import GenerationFailed, RunTimeout
from runcomfy.policy import Deadlines, Polling
from runcomfy.telemetry import metrics

PICTURE = Path(__file__).parents[2] / "deployments" / "demo.jpg"
QUICK = Polling(min_interval_seconds=0.05, default_interval_seconds=0.05)
ROWS = (
    "ends well", "ends well too", "fails [sandbox: result=failed]", "is lost [sandbox: submit=lost_answer]",
    "ends as well",
)  # fmt: skip


def blocks() -> tuple[RunComfyCredentials, MediaStore]:
    env = os.environ
    keys = AwsCredentials(
        aws_access_key_id=env["TEST_KEY"],
        aws_secret_access_key=SecretStr(env["TEST_SECRET"]),
        region_name="us-east-1",
        aws_client_parameters=AwsClientParameters(endpoint_url=env["TEST_ENDPOINT"]),
    )
    account = RunComfyCredentials(
        api_token=SecretStr(env["TEST_TOKEN"]), base_url=env["TEST_URL"], output_hosts=[env["TEST_HOST"]]
    )
    return account, MediaStore(bucket="videos", prefix=env["TEST_PREFIX"], credentials=keys)


@contextlib.contextmanager
def no_run_ends() -> Iterator[None]:
    """Hold what the sandbox runs, however long this machine takes until it polls."""

    def hold(runs: bool) -> None:
        httpx.post(f"{os.environ['TEST_URL']}/sandbox/hold", json={"runs": runs}).raise_for_status()

    hold(True)
    try:
        yield
    finally:
        hold(False)


async def main(what: str) -> None:
    account, store = blocks()
    if what in ("everything", "picture"):
        await image_to_video(ImageSource(str(PICTURE)), "a secret boat", account, store, polling=QUICK)
    if what == "everything":
        with contextlib.suppress(GenerationFailed):
            await text_to_video("a secret failure [sandbox: result=failed]", account, store, polling=QUICK)
        with contextlib.suppress(RunTimeout), no_run_ends():
            soon = Deadlines(run_timeout_seconds=0.01)
            await text_to_video("slow", account, store, polling=QUICK, deadlines=soon)
        with TemporaryDirectory() as folder:
            manifest = Path(folder) / "rows.csv"
            with manifest.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([["prompt"], *([row] for row in ROWS)])
            await batch(str(manifest), account, store, polling=QUICK, return_state=True)
        await reconcile(account, store, abandoned_after_seconds=0)
        metrics.healed("run_again")  # as reconcile does if something was deployed and crashed
    if what == "rain":
        await text_to_video("rain", account, store, polling=QUICK)


def scraped() -> bytes:
    port = os.environ["OTEL_EXPORTER_PROMETHEUS_PORT"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return bytes(answer.read())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
    if "TEST_METRICS" in os.environ:
        Path(os.environ["TEST_METRICS"]).write_bytes(scraped())
