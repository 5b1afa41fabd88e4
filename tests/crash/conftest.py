"""The stage of the crash suite: a Prefect server, the sandbox, the S3 server, and processes to kill."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.sandbox.objectstore import ObjectStore
from tests.crash.generation import Setting
from tests.crash.stage import Stage
from tests.crash.tally import Tally
from tests.crash.workers import running_workers
from tests.deployments.conftest import PrefectServer
from tests.runcomfy.content_credentials.certificates import make_chain
from tests.summary import section

_LANES = 10
_MODELS = Path(__file__).parents[1] / "contract" / "models"
_SETTINGS = SandboxSettings(run_seconds=0.1, tiny_videos=True, slots=50, opening_balance_usd=1e6, models=_MODELS)
_TALLY = pytest.StashKey[Tally]()


@dataclass(frozen=True)
class _QuickServer(PrefectServer):
    """A server that hundreds of short runs call: it stores many of their states at once."""

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {
            "PREFECT_LOGGING_TO_API_ENABLED": "false",
            "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
            "PREFECT_LOCAL_STORAGE_PATH": str(self.home / "storage"),
            "PREFECT_FLOWS_DEFAULT_RETRIES": "1",
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
        }


@pytest.fixture(scope="session")
def crash_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    home = tmp_path_factory.mktemp("prefect")
    with _QuickServer.started(home) as server:
        yield server


@pytest.fixture(scope="session")
def stage(
    object_store: ObjectStore, crash_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    client = object_store.session().client("s3", endpoint_url=object_store.endpoint_url)
    signer = make_chain(tmp_path_factory.mktemp("signer"))
    with (
        Sandbox(_SETTINGS) as sandbox,
        running_workers(tmp_path_factory.mktemp("workers"), crash_server.environment) as workers,
        Stage(Setting(sandbox, object_store, client, workers, signer), _LANES).open() as stage,
    ):
        yield stage


@pytest.fixture(scope="session")
def tally(request: pytest.FixtureRequest) -> Tally:
    """The table that all stories add to; shown at the end of the session."""
    return request.config.stash.setdefault(_TALLY, Tally())


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if (tally := session.config.stash.get(_TALLY, None)) is not None and tally.rows:
        section(session.config, "crashes").extend(tally.lines())
