"""Turn telemetry on, if the standard environment variables of OpenTelemetry ask for it.

Endpoints, protocols, samplers and so on are not decided here: opentelemetry-distro reads all of the variables. A
provider that was configured before (by a platform, or `opentelemetry-instrument`) is kept.
"""

from __future__ import annotations

import logging
import os
import threading
from functools import lru_cache

from opentelemetry import metrics, trace

__all__ = ["SWITCHES", "is_asked_for", "is_configured", "send_soon", "turn_on"]

logger = logging.getLogger(__name__)

SWITCHES = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_TRACES_EXPORTER",
    "OTEL_METRICS_EXPORTER",
    "OTEL_CONFIG_FILE",
)
"""If one of these is set, telemetry is on."""

_EXPORT_SECONDS = "3"  # of one export with its retries, which a process waits for at its end
_sending = threading.Lock()


def is_asked_for() -> bool:
    """Whether the environment asks for telemetry."""
    return os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true" and any(map(os.environ.get, SWITCHES))


@lru_cache(maxsize=1)
def turn_on() -> None:
    """Configure OpenTelemetry's SDK from the environment, once in a process; import nothing if it is not asked for.

    A problem with it (a missing package, a port in use) is logged and never raised: telemetry must not break what is
    paid for.
    """
    if not is_asked_for() or is_configured():
        return
    environment = os.environ
    for signal in ("TRACES", "METRICS"):
        endpoints = (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        if any(map(environment.get, endpoints)):
            environment.setdefault(f"OTEL_{signal}_EXPORTER", "otlp")
    environment.setdefault("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    environment.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", _EXPORT_SECONDS)
    if "service.name=" not in environment.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        environment.setdefault("OTEL_SERVICE_NAME", "runcomfy")
    try:
        from opentelemetry.distro import OpenTelemetryConfigurator

        OpenTelemetryConfigurator().configure()  # type: ignore[no-untyped-call]
    except ImportError as error:
        install = 'run `pip install "prefect-runcomfy[telemetry]"`'
        logger.warning("Telemetry is asked for, but %s is not installed: %s", error.name, install)
    except Exception as error:
        logger.warning("Telemetry could not be turned on (%s: %s); the run goes on", type(error).__name__, error)


def send_soon() -> None:
    """Start sending what is not sent yet, without waiting for it.

    A process that ends normally sends the rest by itself; one that a signal stops does not.
    """
    if is_configured() and _sending.acquire(blocking=False):
        try:
            threading.Thread(target=_send, name="telemetry", daemon=True).start()
        except RuntimeError:  # this process may have no more threads
            _sending.release()


def is_configured() -> bool:
    """Whether a provider is configured, by this module or by anyone else."""
    return any(hasattr(provider, "force_flush") for provider in _providers())


def _providers() -> tuple[object, object]:
    return trace.get_tracer_provider(), metrics.get_meter_provider()


def _send() -> None:
    try:
        tracers, meters = _providers()
        # A Prometheus reader keeps what is flushed, and exposes it twice (opentelemetry-exporter-prometheus 0.66b2).
        is_scraped = "prometheus" in os.environ.get("OTEL_METRICS_EXPORTER", "prometheus")
        for provider in (tracers,) if is_scraped else (tracers, meters):
            if (flush := getattr(provider, "force_flush", None)) is not None:
                flush()
    except Exception as error:
        logger.warning("Telemetry could not be sent (%s); the run goes on", type(error).__name__)
    finally:
        _sending.release()
