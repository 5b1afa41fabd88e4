"""The dashboard and the alert rules name what exists: metrics and labels that a run of the flows really exposes."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.models.dashboard import Dashboard
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelling
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from deployments.monitoring.dashboard import FILE, document
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.telemetry.metrics import METRICS
from tests.collector import running_collector
from tests.deployments.conftest import PrefectServer
from tests.deployments.test_running import api, ended, parameters
from tests.ports import free_ports
from tests.tasks.test_telemetry import environment, finish, start

FOLDER = FILE.parent
SELECTOR = re.compile(r"(runcomfy_\w+)(?:\{([^}]*)\})?")


def read(name: str) -> Any:
    return YAML(typ="safe").load((FOLDER / name).read_text(encoding="utf-8"))


def rules() -> list[dict[str, Any]]:
    return [rule for group in read("alerts.yml")["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    shown = [target["expr"] for panel in json.loads(document())["panels"] for target in panel.get("targets", [])]
    return [*shown, *(rule["expr"] for rule in rules())]


@pytest.fixture(scope="module")
def exposed(
    session_sandbox: Sandbox, object_store: ObjectStore, prefect_api: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, set[str]]]:
    """The metrics that a run exposes to Prometheus, with their labels."""
    session_sandbox.reset()
    session_sandbox.inject("http_429", endpoint="submit", times=1, retry_after=1)
    scraped = tmp_path_factory.mktemp("metrics") / "metrics.txt"
    told = environment(
        session_sandbox, object_store, "monitoring", prefect_api, TEST_METRICS=str(scraped),
        OTEL_METRICS_EXPORTER="prometheus", OTEL_EXPORTER_PROMETHEUS_PORT=str(*free_ports()),
    )  # fmt: skip
    finish(start("everything", told))
    found: dict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(scraped.read_text(encoding="utf-8")):
        for sample in family.samples:
            found[sample.name] |= set(sample.labels)
    yield found


def test_the_dashboard_is_what_its_code_makes() -> None:
    """`python -m deployments.monitoring.dashboard` makes the same file, and Grafana's own types read all of it."""
    written = FILE.read_text(encoding="utf-8")

    assert written == document(), "run python -m deployments.monitoring.dashboard"
    loaded = json.loads(written)
    read_again = Dashboard.from_json(loaded)
    assert (read_again.uid, read_again.title) == ("runcomfy-generations", "RunComfy generations")
    assert len({panel["id"] for panel in loaded["panels"]}) == len(loaded["panels"])
    assert {variable["name"] for variable in loaded["templating"]["list"]} == {"datasource", "model", "window"}


def test_every_metric_and_label_that_is_named_exists(exposed: Mapping[str, set[str]]) -> None:
    """In the dashboard and in the rules: if a metric is renamed, these have to follow."""
    for expression in expressions():
        selected = SELECTOR.findall(expression)
        assert selected, expression
        for name, labels in selected:
            assert name in exposed, f"{name} in {expression}"
            assert set(re.findall(r"(\w+)\s*[=!]", labels)) <= exposed[name], expression
        for grouped in re.findall(r"sum by \(([^)]*)\)", expression):
            assert set(grouped.split(", ")) <= set().union(*(exposed[name] for name, _ in selected)), expression


def test_every_metric_is_exposed_under_the_name_that_follows_from_its_own(exposed: Mapping[str, set[str]]) -> None:
    """By the rules of OpenTelemetry for Prometheus; and each with the attributes that it is documented with."""
    for metric in METRICS:
        name = metric.name.replace(".", "_") + {"s": "_seconds", "By": "_bytes"}.get(metric.unit, "")
        name += {"counter": "_total", "histogram": "_count", "up-down counter": ""}[metric.kind]
        labels = {attribute.replace(".", "_") for attribute in metric.attributes}
        assert exposed[name] - {"otel_scope_name", "otel_scope_version", "otel_scope_schema_url"} == labels, name


def test_every_metric_is_shown(exposed: Mapping[str, set[str]]) -> None:
    """A metric that nobody sees need not be counted."""
    shown = " ".join(expressions())

    assert [metric.name for metric in METRICS if metric.name.replace(".", "_") not in shown] == []


def test_a_rule_says_what_to_do() -> None:
    """What is wrong, what it means for money or videos, and how urgent it is."""
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_the_examples_fit_together() -> None:
    """Prometheus reads these rules, and scrapes what the collector and the runs serve; Grafana reads from there."""
    prometheus, collector = read("prometheus.yml"), read("collector.yml")
    source = read("provisioning/datasources/prometheus.yml")["datasources"][0]
    targets = {
        target for job in prometheus["scrape_configs"] for one in job["static_configs"] for target in one["targets"]
    }

    assert prometheus["rule_files"] == ["alerts.yml"]
    assert targets == {"127.0.0.1:9464", collector["exporters"]["prometheus"]["endpoint"]}
    assert source["type"] == "prometheus"
    assert read("provisioning/dashboards/runcomfy.yml")["providers"][0]["type"] == "file"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, which comes with Prometheus")
@pytest.mark.parametrize(
    "check", ["check rules alerts.yml", "test rules alerts-test.yml", "check config prometheus.yml"]
)
def test_prometheus_itself_accepts_the_files(check: str) -> None:
    """And the rules fire when they should."""
    done = subprocess.run(["promtool", *check.split()], cwd=FOLDER, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_no_folder_of_this_machine_is_in_the_files() -> None:
    """They are examples for every installation."""
    for path in sorted(FOLDER.rglob("*.*ml")):
        assert not re.search(r"/(home|root|work|tmp)/", path.read_text(encoding="utf-8")), Path(path).name


@pytest.mark.slow
async def test_the_runs_of_a_worker_send_everything(
    prefect_server: PrefectServer,
    sandbox: Sandbox,
    object_store: ObjectStore,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each run is a process that ends with it; one that ends by itself, and one that somebody cancels."""
    with running_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        prefect_server.deploy()
        with prefect_server.running("prefect", "worker", "start", "--pool", "test-pool"):
            async with api(prefect_server) as client:
                deployment = await client.read_deployment_by_name("text-to-video/text-to-video")
                given = await parameters(client, sandbox, object_store, prefix)
                run = await client.create_flow_run_from_deployment(deployment.id, parameters=given)
                assert (await ended(client, run.id)).state_type is StateType.COMPLETED
                await asyncio.to_thread(
                    collector.wait_for,
                    lambda: (
                        collector.total("runcomfy.generations", outcome="archived") == 1
                        and len(collector.named("generation")) == 1
                    ),
                )

                sandbox.hold()
                given = given | {"prompt": "snow"}
                run = await client.create_flow_run_from_deployment(deployment.id, parameters=given)
                await asyncio.to_thread(collector.wait_for, lambda: len(collector.named("submit")) == 2)
                await client.set_flow_run_state(run.id, Cancelling())
                assert (await ended(client, run.id)).state_type is StateType.CANCELLED
                await asyncio.to_thread(collector.wait_for, lambda: len(collector.named("wait")) == 2)
    sandbox.release()
    assert collector.total("runcomfy.submissions", outcome="accepted") == 2
