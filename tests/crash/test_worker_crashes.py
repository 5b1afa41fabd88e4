"""The same, with the flow run by a Prefect worker from a deployment, and retried by Prefect after each kill."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.sandbox.objectstore import ObjectStore
from tests.crash.deployed import DeploymentRuns
from tests.crash.generation import Setting
from tests.crash.points import at
from tests.crash.promises import Verdict
from tests.crash.stage import Stage
from tests.crash.tally import Tally
from tests.crash.test_crashes import TEXT, finish, missed, recorded, recorded_points, until_killed
from tests.crash.wire import Point
from tests.deployments.conftest import PrefectServer

pytestmark = pytest.mark.slow

_LANES = 6


@pytest.fixture(scope="module")
def deployed_stage(
    object_store: ObjectStore, crash_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    client = object_store.session().client("s3", endpoint_url=object_store.endpoint_url)
    crash_server.deploy()
    runs = DeploymentRuns(tmp_path_factory.mktemp("runs"), crash_server.api_url, "text-to-video/text-to-video")
    results = {PREFECT_API_URL: crash_server.api_url, PREFECT_LOCAL_STORAGE_PATH: crash_server.home / "storage"}
    with (
        temporary_settings(results),
        Sandbox(SandboxSettings(run_seconds=0.1, tiny_videos=True, slots=50, opening_balance_usd=1e6)) as sandbox,
        crash_server.running("prefect", "worker", "start", "--pool", "test-pool"),
        Stage(Setting(sandbox, object_store, client, runs), _LANES).open() as stage,
    ):
        yield stage


def test_a_workers_run_is_killed_around_every_write(deployed_stage: Stage, tally: Tally) -> None:
    """The worker reports the run as crashed; retried, the same run ends with its one video."""
    recorded(deployed_stage, TEXT)  # registers the blocks, which several at once cannot
    # The first run in each lane leaves the note of what the store is able to do, as on any bucket in use.
    deployed_stage.side_by_side(lambda scenario: recorded(deployed_stage, scenario), [TEXT] * _LANES, at_once=_LANES)
    trace, in_others = recorded_points(deployed_stage, TEXT)
    points = [point for point in trace if point.name.startswith(("s3 PUT", "api POST")) and point in in_others]

    def crash(point: Point) -> Verdict:
        with deployed_stage.generation(TEXT) as generation:
            generation.run_killed(at(point))
            return finish(f"a worker's run, killed {point}", generation)

    verdicts = deployed_stage.side_by_side(lambda point: until_killed(crash, point), points, at_once=_LANES)

    row = tally.row("a worker's run: every write", verdicts)
    assert not row.broken
    assert not missed(points, verdicts, in_others)
