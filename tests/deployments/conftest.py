"""A real Prefect server in a process of its own, as a user runs it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
import pytest
from ruamel.yaml import YAML

from tests.ports import free_ports
from tests.prefect_server import MANY_RETRIES, patient_server

ROOT = Path(__file__).parents[2]
POOL = "test-pool"


@dataclass(frozen=True)
class PrefectServer:
    """A running server: its API, and the environment that lets a process use it."""

    api_url: str
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "AWS_"))}
        return kept | {
            **MANY_RETRIES,
            "PREFECT_API_URL": self.api_url,
            "PREFECT_HOME": str(self.home),
            "PREFECT_WORKER_QUERY_SECONDS": "1",  # by default ten: most of what a test would wait for
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "RUNCOMFY_WORK_POOL": POOL,
            "DO_NOT_TRACK": "1",
        }

    @contextlib.contextmanager
    def running(self, *command: str, **extra: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command beside the test, and end it and its children afterwards."""
        log = (self.home / f"{command[-1].rpartition('.')[2]}-{time.monotonic_ns()}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=self.environment | extra,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def run(self, *command: str) -> str:
        """Run a command to its end and return what it printed; fail the test if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def deploy(self) -> None:
        """Make sure of the work pool `test-pool`, not paused, and of the project's deployments in it.

        What an earlier test has deployed stays: all that takes ten seconds of the processor.
        """
        from prefect import get_client  # imported late: most tests need no Prefect
        from prefect.client.schemas.actions import WorkPoolCreate
        from prefect.settings import PREFECT_API_URL, temporary_settings
        from prefect.workers.process import ProcessWorker

        told = YAML(typ="safe").load(ROOT / "deployments" / "prefect.yaml")["deployments"]
        pool = WorkPoolCreate(
            name=POOL, type="process", base_job_template=ProcessWorker.get_default_base_job_template()
        )
        with temporary_settings({PREFECT_API_URL: self.api_url}), get_client(sync_client=True) as client:
            client.create_work_pool(pool, overwrite=True)
            deployed = {found.name for found in client.read_deployments() if found.work_pool_name == POOL}
        if not {deployment["name"] for deployment in told} <= deployed:
            self.run("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "deployments/prefect.yaml")

    @classmethod
    @contextlib.contextmanager
    def started(cls, home: Path, **given: str) -> Iterator[Self]:
        """Start a server on a free port, wait until it answers, and end it afterwards."""
        (port,) = free_ports()
        server = cls(f"http://127.0.0.1:{port}/api", home, **given)
        with server.running(*patient_server(port)) as process:
            deadline = time.monotonic() + 900
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{server.api_url}/health", timeout=2).is_success:
                        break
                assert process.poll() is None and time.monotonic() < deadline, "the Prefect server did not come up"
                time.sleep(0.2)
            yield server


class BusyServer(PrefectServer):
    """A server that stores many task runs at once."""

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
            "PREFECT_LOGGING_TO_API_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "WARNING",
        }


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with PrefectServer.started(tmp_path_factory.mktemp("prefect")) as server:
        yield server
