"""The page about metrics and traces, compared with the code."""

from __future__ import annotations

import re
from pathlib import Path

from ruamel.yaml import YAML

from runcomfy.telemetry.activation import SWITCHES
from runcomfy.telemetry.metrics import METRICS, Metric

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
PARTS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
SOURCES = "".join(
    (ROOT / name).read_text()
    for name in ("runcomfy/generation/phases.py", "runcomfy/telemetry/request.py", "tasks/runtime/hooks.py")
)
TRACING = (ROOT / "runcomfy/telemetry/tracing.py").read_text()


def rows(part: str) -> list[list[str]]:
    lines = [line for line in PARTS[part].splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def in_prometheus(metric: Metric) -> str:
    unit = {"s": "_seconds", "By": "_bytes"}.get(metric.unit, "")
    return metric.name.replace(".", "_") + unit + ("_total" if metric.kind == "counter" else "")


def test_every_metric_is_on_the_page() -> None:
    """With both names, its kind, its unit, its attributes and what it counts, and no other."""
    assert rows("Metrics") == [
        [
            f"`{metric.name}`",
            f"`{in_prometheus(metric)}`",
            f"{metric.kind}, {metric.unit}",
            ", ".join(f"`{name}`" for name in metric.attributes),
            metric.about,
        ]
        for metric in METRICS
    ]


def test_every_span_is_on_the_page() -> None:
    """And each attribute that all of them have is one that the code sets."""
    named = {row[0].strip("`") for row in rows("Traces")}
    made = set(re.findall(r'(?:span_of_phase|_started|start_as_current_span)\(\s*"(\w+)"', SOURCES + TRACING))

    assert named == made | set(re.findall(r'_phase\("\w+", "(\w+)"', SOURCES))
    for attribute in re.findall(r"`((?:runcomfy|prefect)\.[\w.]+)`", PARTS["Traces"]):
        assert f'"{attribute}"' in SOURCES, attribute


def test_every_alert_is_on_the_page() -> None:
    """With its severity."""
    groups = YAML(typ="safe").load((ROOT / "deployments/monitoring/alerts.yml").read_text())["groups"]
    rules = {rule["alert"]: rule["labels"]["severity"] for group in groups for rule in group["rules"]}

    assert {row[0].strip("`"): row[2] for row in rows("Dashboard and alerts")} == rules


def test_every_variable_that_turns_it_on_is_on_the_page() -> None:
    """Each of the variables that do, in words or by name."""
    said = PARTS["Turn it on"]

    for name in SWITCHES:
        assert f"`{name}`" in said or f"`…{name.removeprefix('OTEL_EXPORTER_OTLP')}`" in said, name


def test_every_link_of_the_page_has_a_target() -> None:
    """Files and images; an image is small."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGE):
        path = ROOT / "docs" / target
        assert path.exists(), target
        assert path.suffix != ".png" or path.stat().st_size <= 200_000, target
