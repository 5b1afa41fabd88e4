"""What a collector receives from flow runs: one trace a generation, counts that agree with the ledger, no secret."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runcomfy.models import TextToVideo, generation_key
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from tests.collector import Collector, Seen, running_collector

ROOT = Path(__file__).parents[2]
VIDEO, PICTURE = "wan-ai/wan-2-1/text-to-video", "wan-ai/wan-2-1/image-to-video"


def environment(sandbox: Sandbox, store: ObjectStore, prefix: str, api: str, **also: str) -> dict[str, str]:
    """The settings of a flow run's process; of OpenTelemetry only those of the test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    given = {
        "TEST_KEY": store.access_key, "TEST_SECRET": store.secret_key, "TEST_ENDPOINT": store.endpoint_url,
        "TEST_TOKEN": sandbox.token, "TEST_URL": sandbox.url, "TEST_HOST": sandbox.host, "TEST_PREFIX": prefix,
    }  # fmt: skip
    return kept | given | {"PREFECT_API_URL": api} | also


def start(what: str, env: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.tasks.measured_run", what]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(run: subprocess.Popen[str]) -> str:
    said, _ = run.communicate(timeout=900)
    assert run.returncode == 0, said
    return said


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


@pytest.fixture(scope="module")
def books(session_sandbox: Sandbox, object_store: ObjectStore, prefect_api: str) -> Iterator[tuple[Collector, Any]]:
    """What a collector received from a run in which each generation ends differently, and the service's ledger."""
    session_sandbox.reset()
    session_sandbox.inject("http_429", endpoint="submit", times=1, retry_after=1)
    with running_collector() as collector:
        told = environment(
            session_sandbox, object_store, "telemetry", prefect_api, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url
        )
        finish(start("everything", told))
        yield collector, session_sandbox.books()


def test_a_generation_is_one_trace_across_its_task_runs(books: tuple[Collector, Any]) -> None:
    """Stage, submit, wait and archive are below one span, within its time, and link to their task runs."""
    collector, _ = books
    (root,) = [span for span in collector.named("generation") if span.attributes["runcomfy.model"] == PICTURE]
    key = root.attributes["runcomfy.generation.key"]
    phases = [span for span in collector.named() if span.trace_id == root.trace_id and span != root]

    assert root.trace_id == key[:32] and root.parent_id == ""
    ordered = sorted(phases, key=lambda span: span.began_ns)
    assert [span.name for span in ordered] == ["stage", "submit", "wait", "archive"]
    assert {span.parent_id for span in phases} == {root.span_id}
    assert {span.attributes["prefect.flow_run.id"] for span in phases} == {root.attributes["prefect.flow_run.id"]}
    for phase in phases:
        assert root.began_ns <= phase.began_ns <= phase.ended_ns <= root.ended_ns
    task_runs = {span.trace_id: span.name for span in collector.spans if span.scope == "prefect"}
    assert [task_runs[span.links[0]].split()[0] for span in ordered[1:]] == ["submit", "wait", "archive"]
    assert (root.attributes["runcomfy.outcome"], root.attributes["runcomfy.cost_usd"]) == ("archived", 0.25)
    assert ordered[2].events[-1] == "succeeded"


def test_a_failure_is_in_its_trace(books: tuple[Collector, Any]) -> None:
    """With the class of the error, and a text that quotes nothing from outside."""
    collector, _ = books

    def of(outcome: str) -> list[Seen]:
        return [span for span in collector.named("generation") if span.attributes["runcomfy.outcome"] == outcome]

    assert [span.attributes["error.type"] for span in of("failed")] == ["GenerationFailed"] * 2
    assert all("told to fail" not in span.error and span.error for span in of("failed"))
    (uncertain,) = of("uncertain")
    assert uncertain.attributes["error.type"] == "UncertainSubmission"
    (late,) = [span for span in collector.named("wait") if span.attributes.get("error.type") == "RunTimeout"]
    assert late.error.startswith("The request was not finished")


def test_a_detached_request_continues_its_trace(books: tuple[Collector, Any]) -> None:
    """It counts as detached; and once more, with its cost, when `reconcile` has collected it in another flow run."""
    collector, _ = books
    (late,) = [span for span in collector.named("wait") if span.attributes.get("error.type") == "RunTimeout"]
    (root,) = [span for span in collector.named("generation") if span.trace_id == late.trace_id]

    assert root.attributes["runcomfy.outcome"] == "archived"
    assert root.attributes["prefect.flow_run.id"] != late.attributes["prefect.flow_run.id"]
    assert root.began_ns <= late.began_ns and late.parent_id == root.span_id


def test_the_generations_of_a_batch_link_to_the_batch(books: tuple[Collector, Any]) -> None:
    """Each is a trace of its own, and all of them link to the trace of the batch."""
    collector, _ = books
    (batch,) = collector.named("batch")
    linked = {span.trace_id for span in collector.named() if batch.trace_id in span.links}

    assert batch.attributes["runcomfy.batch.rows"] == 5
    assert len(linked) == 5 and batch.trace_id not in linked


def test_the_counts_agree_with_the_ledger_of_the_service(books: tuple[Collector, Any]) -> None:
    """What was accepted, its outcomes and its cost; nothing is in flight at the end."""
    collector, kept = books
    total = collector.total

    assert total("runcomfy.submissions", outcome="accepted") + 1 == kept.submissions_accepted, "one answer was lost"
    assert total("runcomfy.submissions", outcome="uncertain") == 1
    assert total("runcomfy.generations", outcome="archived", model=PICTURE) == 1
    assert total("runcomfy.generations", outcome="archived", model=VIDEO) == 4
    assert total("runcomfy.generations", outcome="failed") == 2
    assert total("runcomfy.generations", outcome="detached") == 1
    assert total("runcomfy.cost_usd") == 0.25 * 7
    assert total("runcomfy.requests.without_cost") == 1
    assert total("runcomfy.generations.in_flight") == 0
    assert total("runcomfy.generation.duration") == 5
    assert total("runcomfy.generation.phase.duration", phase="submit") == kept.submissions_accepted - 1
    assert total("runcomfy.transferred", content="picture") == 70_204
    assert total("runcomfy.retries", phase="submit") == 1
    assert total("runcomfy.api.call.duration", call="submit", status="4xx") == 1
    assert total("runcomfy.polls") == total("runcomfy.api.call.duration", call="status")
    assert total("runcomfy.errors", **{"error.type": "RunTimeout"}) == 1


def test_no_secret_and_no_prompt_is_sent(books: tuple[Collector, Any], session_sandbox: Sandbox) -> None:
    """Neither the token, nor a signature, nor a prompt, in any span or metric of ours."""
    collector, _ = books
    sent = b"".join(collector.bodies)
    ours = repr(collector.named())

    assert session_sandbox.token.encode() not in sent
    assert b"X-Amz-Signature" not in sent and b"Bearer" not in sent
    for word in ("secret", "ends well", "sandbox:", "X-Amz"):
        assert word not in ours
    assert not any("secret" in str(series) for series in collector.points)


@pytest.mark.slow
def test_a_generation_that_another_process_ends_stays_one_trace(
    collector: Collector, sandbox: Sandbox, object_store: ObjectStore, prefix: str, prefect_api: str
) -> None:
    """The first is killed while it waits; the second is counted as the end of the same generation, and sends its root.

    A third, which finds the archive, adds nothing.
    """
    told = environment(
        sandbox, object_store, prefix, prefect_api,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="100",
    )  # fmt: skip
    sandbox.hold(queue=False, runs=True)
    first = start("rain", told)
    collector.wait_for(lambda: bool(collector.named("submit")))
    first.send_signal(signal.SIGKILL)
    first.communicate()
    sandbox.release()

    finish(start("rain", told))
    finish(start("rain", told))

    ours = collector.named()
    assert sorted(span.name for span in ours) == ["archive", "generation", "submit", "wait"]
    assert {span.trace_id for span in ours} == {generation_key(TextToVideo(prompt="rain"))[:32]}
    (root,) = collector.named("generation")
    assert {span.parent_id for span in ours} == {"", root.span_id}
    assert collector.total("runcomfy.generations") == 1
    assert collector.total("runcomfy.submissions", outcome="accepted") <= 1
    assert sandbox.books().submissions_accepted == 1


@pytest.mark.slow
def test_a_collector_that_does_not_answer_delays_nothing(
    collector: Collector, sandbox: Sandbox, object_store: ObjectStore, prefix: str, prefect_api: str
) -> None:
    """The generation is archived as always; the process ends without an error, though the collector never answers."""
    collector.silent = True
    told = environment(sandbox, object_store, prefix, prefect_api, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)

    finish(start("rain", told))

    assert sandbox.books().succeeded == 1


@pytest.mark.slow
def test_a_port_in_use_fails_no_run(
    collector: Collector, sandbox: Sandbox, object_store: ObjectStore, prefix: str, prefect_api: str
) -> None:
    """Two runs on one machine want the same port: the second only lacks metrics there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = environment(
            sandbox, object_store, prefix, prefect_api,
            OTEL_METRICS_EXPORTER="prometheus", OTEL_EXPORTER_PROMETHEUS_PORT=str(taken.getsockname()[1]),
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/v1/traces",
        )  # fmt: skip
        said = finish(start("rain", told))

    assert "Telemetry could not be turned on" in said
    assert len(collector.named("generation")) == 1, "the traces are sent all the same"
