"""Telemetry is off unless the standard variables ask for it, goes only where they say, and never breaks anything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runcomfy.telemetry.metrics import METRICS
from runcomfy.telemetry.tracing import request_ids, trace_id_of
from tests.collector import Collector, running_collector

ROOT = Path(__file__).parents[3]
KEY = "0123456789abcdef" * 4
USE = f"""
from runcomfy.telemetry import activation, metrics, tracing
def use(key="{KEY}", request="r"):
    ids = tracing.request_ids(key, request)
    with tracing.phase_span("wait", ids, {{"a": 1, "b": None}}):
        metrics.took("run", 60, model_id="m")
    tracing.generation_span(ids, {{}}, began_ns=10**18, ended_ns=10**18 + 5)
    metrics.ended(request, "archived", model_id="m", cost_usd=0.25)
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


def run(program: str, **variables: str) -> tuple[str, str]:
    """Run a program in a process of its own, since a process has one provider; return its output and its log."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | variables
    command = [sys.executable, "-c", f"import sys, threading\n{USE}\n{program}"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


LOADED = "activation.turn_on(); use(); print('opentelemetry.sdk' in sys.modules, threading.active_count())"


@pytest.mark.parametrize(
    "variables", [{}, {"OTEL_SERVICE_NAME": "x"}, {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "console"}]
)
def test_nothing_is_loaded_unless_it_is_asked_for(variables: dict[str, str]) -> None:
    """No SDK, no thread; and `OTEL_SDK_DISABLED` wins over everything."""
    assert run(LOADED, **variables)[0] == "False 1"


def test_an_endpoint_is_all_that_it_takes(collector: Collector) -> None:
    """Metrics and traces are sent there, over HTTP, at the end of the process at the latest, and named as ours."""
    run("activation.turn_on(); use()", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)

    assert sorted(span.name for span in collector.named()) == ["generation", "wait"]
    assert collector.total("runcomfy.generations", outcome="archived", model="m") == 1
    assert any(b"service.name" in body and b"runcomfy" in body for body in collector.bodies)


def test_the_variables_of_a_user_are_kept(collector: Collector) -> None:
    """The name of the service, and that only traces are wanted."""
    run(
        "activation.turn_on(); use()", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_METRICS_EXPORTER="none",
        OTEL_RESOURCE_ATTRIBUTES="service.name=films",
    )  # fmt: skip

    assert collector.named() and not collector.points
    assert b"films" in collector.bodies[0]


def test_a_provider_that_is_configured_is_kept(collector: Collector) -> None:
    """A platform that has set one up gets our spans, in traces with our ids, whatever the variables say."""
    said, _ = run(
        "from opentelemetry import trace\nfrom opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import SimpleSpanProcessor\n"
        "from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter\n"
        "kept = InMemorySpanExporter(); mine = TracerProvider(); trace.set_tracer_provider(mine)\n"
        "mine.add_span_processor(SimpleSpanProcessor(kept)); activation.turn_on(); use()\n"
        "root = [span for span in kept.get_finished_spans() if span.name == 'generation'][0]\n"
        "print(trace.get_tracer_provider() is mine, format(root.context.trace_id, '032x'))",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
    )

    assert said == f"True {KEY[:32]}"
    assert collector.bodies == []


def test_a_trace_is_sampled_as_a_whole(collector: Collector) -> None:
    """All that add to it decide the same, since the sampler uses the trace id."""
    run(
        "import hashlib\nactivation.turn_on()\n"
        "for number in range(60): use(hashlib.sha256(str(number).encode()).hexdigest(), f'r{number}')",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_METRICS_EXPORTER="none",
        OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG="0.5",
    )  # fmt: skip
    roots = {span.trace_id for span in collector.named("generation")}

    assert 15 <= len(roots) <= 45
    assert {span.trace_id for span in collector.named("wait")} == roots


def test_a_missing_package_is_a_warning() -> None:
    """It says which extra is missing; the run goes on."""
    _, said = run(
        "sys.modules['opentelemetry.distro'] = None; activation.turn_on(); use()", OTEL_TRACES_EXPORTER="otlp"
    )

    assert 'run `pip install "prefect-runcomfy[telemetry]"`' in said


def test_a_provider_that_breaks_breaks_nothing() -> None:
    """What is paid for goes on, with a warning."""
    went_on, said = run(
        "from opentelemetry import trace\nfrom opentelemetry.sdk.trace import SpanProcessor, TracerProvider\n"
        "class Broken(SpanProcessor):\n"
        "    def on_start(self, span, parent_context=None): raise RuntimeError('no')\n"
        "    def on_end(self, span): raise RuntimeError('no')\n"
        "mine = TracerProvider(); mine.add_span_processor(Broken()); trace.set_tracer_provider(mine); use()\n"
        "with tracing.batch_span({'rows': 2}): print('went on')"
    )

    assert said.count("could not be started (RuntimeError)") == 3
    assert went_on == "went on"


def test_a_span_that_breaks_hides_no_error() -> None:
    """The error of a phase is raised even if its span fails."""
    came, said = run(
        "from opentelemetry import trace\n"
        "class Broken(trace.NonRecordingSpan):\n"
        "    def set_attribute(self, *_): raise RuntimeError('no')\n"
        "class Tracer(trace.NoOpTracer):\n"
        "    def start_span(self, *_, **__): return Broken(trace.INVALID_SPAN_CONTEXT)\n"
        "class Provider(trace.NoOpTracerProvider):\n"
        "    def get_tracer(self, *_, **__): return Tracer()\n"
        "trace.set_tracer_provider(Provider())\n"
        "try:\n"
        "    with tracing.phase_span('wait', (1, 2), {}): raise ValueError('paid for')\n"
        "except ValueError as error: print(error)"
    )

    assert came == "paid for"
    assert "could not be ended (RuntimeError)" in said


def test_ids_are_derived_from_keys_and_request_ids() -> None:
    """The trace id is the first half of the generation's key; a request that is in no journal has its own."""
    assert format(trace_id_of(KEY, None), "032x") == KEY[:32]
    assert request_ids(KEY, "r") == request_ids(KEY, "r") != request_ids(KEY, "s")
    assert request_ids(None, "r")[0] != request_ids(None, "s")[0]


def test_the_attributes_are_few() -> None:
    """No attribute is a request, a generation, a prompt or a flow run."""
    known = {"outcome", "model", "phase", "call", "status", "content", "error.type", "verdict", "setting"}

    assert {attribute for metric in METRICS for attribute in metric.attributes} <= known


def test_a_setting_is_bounded() -> None:
    """A model whose size is any number has thirty settings in a process, and the others together."""
    found = subprocess.run(
        [sys.executable, "-c", """
from opentelemetry import metrics as api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
api.set_meter_provider(MeterProvider([reader]))
from runcomfy.telemetry import metrics
for width in range(100):
    metrics.judged("good", "m", f"width {width}")
points = [p for r in reader.get_metrics_data().resource_metrics for s in r.scope_metrics for m in s.metrics
          for p in m.data.data_points]
print(len(points), sum(p.value for p in points), max(p.value for p in points))
"""], capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert found.stdout.split() == ["31", "100", "70"]
