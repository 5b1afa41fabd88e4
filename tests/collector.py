"""An OpenTelemetry collector for tests: it takes OTLP over HTTP, and keeps what it received."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["Collector", "Seen", "running_collector"]


@dataclass(frozen=True)
class Seen:
    """One span, in Python's types."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    began_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    events: list[str]
    links: list[str]
    error: str
    scope: str


@dataclass
class Collector:
    """What was received, and how to answer."""

    url: str = ""
    status: int = 200
    silent: bool = False
    bodies: list[bytes] = field(default_factory=list)
    spans: list[Seen] = field(default_factory=list)
    points: dict[tuple[str, str, tuple[tuple[str, Any], ...]], float] = field(default_factory=dict)
    """The latest value of each time series, by its resource's instance, name and attributes."""
    ended: threading.Event = field(default_factory=threading.Event)

    def named(self, *names: str) -> list[Seen]:
        """Return our spans of these names, all of ours if none is given."""
        return [span for span in self.spans if span.scope == "runcomfy" and (not names or span.name in names)]

    def total(self, metric: str, **attributes: Any) -> float:
        """Return the sum of all time series of a metric that have these attributes; of a histogram, of its counts."""
        return sum(
            value
            for (_, name, found), value in self.points.items()
            if name == metric and attributes.items() <= dict(found).items()
        )

    def wait_for(self, condition: Callable[[], bool], seconds: float = 600) -> None:
        """Wait until what was received fulfils a condition."""
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, [span.name for span in self.spans]
            time.sleep(0.05)

    def take_traces(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.spans += [
                    Seen(
                        span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
                        span.start_time_unix_nano, span.end_time_unix_nano, _facts(span.attributes),
                        [event.name for event in span.events], [link.trace_id.hex() for link in span.links],
                        span.status.message, scope.scope.name,
                    )
                    for span in scope.spans
                ]  # fmt: skip

    def take_metrics(self, body: bytes) -> None:
        now: dict[tuple[str, str, tuple[tuple[str, Any], ...]], float] = {}
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            instance = _facts(resource.resource.attributes)["service.instance.id"]
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in getattr(metric, str(metric.WhichOneof("data"))).data_points:
                        facts = tuple(sorted(_facts(point.attributes).items()))
                        series = (instance, metric.name, facts)
                        assert series not in now, f"{series} came twice"
                        now[series] = point.count if metric.HasField("histogram") else _value(point)
        self.points |= now


def _value(point: Any) -> float:
    return float(getattr(point, point.WhichOneof("value")))


def _facts(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def running_collector() -> Iterator[Collector]:
    """Run a collector on a free port of this machine."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if collector.silent:
                collector.ended.wait()
                return
            collector.bodies.append(body)
            {"/v1/traces": collector.take_traces, "/v1/metrics": collector.take_metrics}[self.path](body)
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        collector.ended.set()
        server.shutdown()
        server.server_close()
