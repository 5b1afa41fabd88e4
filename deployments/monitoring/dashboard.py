"""Make the Grafana dashboard: `python -m deployments.monitoring.dashboard` writes `grafana-dashboard.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders.common import ReduceDataOptions, StackingConfig
from grafana_foundation_sdk.builders.dashboard import (
    CustomVariable,
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import GraphDrawStyle, StackingMode
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    VariableOption,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

__all__ = ["FILE", "document", "main"]

FILE = Path(__file__).with_name("grafana-dashboard.json")

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_M = 'model=~"$model"'  # the models that are chosen
_WIDE, _NARROW = 12, 4


def document() -> str:
    """Return the dashboard as Grafana reads it; data source, model and averaging time are variables.

    Everything is summed over the processes that report it: with a process for each flow run, one alone says nothing.
    """
    dashboard = (
        Dashboard("RunComfy generations")
        .uid("runcomfy-generations")
        .description("What was made, what it cost, how it went. docs/metrics.md says what each metric counts.")
        .tags(["runcomfy", "prefect"])
        .timezone("browser")
        .time("now-24h", "now")
        .refresh("1m")
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(
            QueryVariable("model").label("Model").datasource(_SOURCE)
            .query("label_values(runcomfy_submissions_total, model)").refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True).include_all(True).all_value(".*")
            .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
        )
        .with_variable(
            CustomVariable("window").label("Averaged over").values("15m,1h,6h,1d")
            .current(VariableOption(selected=True, text="1h", value="1h"))
            .options([VariableOption(value == "1h", value, value) for value in ("15m", "1h", "6h", "1d")])
        )
    )  # fmt: skip
    _overview(dashboard)
    _times(dashboard)
    _money(dashboard)
    _quality(dashboard)
    _troubles(dashboard)
    built = dashboard.build()
    for number, panel in enumerate(built.panels or [], start=1):
        panel.id_val = number
    return JSONEncoder(sort_keys=True, indent=2).encode(built) + "\n"


def _overview(dashboard: Dashboard) -> None:
    archived, ended = _in_range("runcomfy_generations_total", 'outcome="archived"'), _in_range(
        "runcomfy_generations_total", 'outcome!="detached"'
    )  # fmt: skip
    uncertain = _rare("runcomfy_submissions_total", f'outcome="uncertain",{_M}', "$__range")
    without_cost = _rare("runcomfy_requests_without_cost_total", _M, "$__range")
    dashboard.with_row(Row("Overview"))
    for title, expression, unit in (
        ("Archived", archived, "short"),
        ("Share that was archived", f"{archived} / {ended}", "percentunit"),
        ("Spent", _in_range("runcomfy_cost_usd_total"), "currencyUSD"),
        ("In flight now", f"sum(runcomfy_generations_in_flight{{{_M}}})", "short"),
        ("Uncertain submissions", uncertain, "short"),
        ("Requests without known cost", without_cost, "short"),
    ):
        dashboard.with_panel(_stat(title, expression, unit))
    ends = f"sum by (outcome) (increase(runcomfy_generations_total{{{_M}}}[$__rate_interval]))"
    places = f"sum by (phase) (runcomfy_generations_in_flight{{{_M}}})"
    dashboard.with_panel(_bars(_series("Ended, by outcome", "short", ("{{outcome}}", ends))))
    dashboard.with_panel(_stacked(_series("In flight, by phase", "short", ("{{phase}}", places))))


def _times(dashboard: Dashboard) -> None:
    dashboard.with_row(Row("How long it takes"))
    for title, phase in (("In the queue", "queue"), ("Running", "run"), ("Archiving", "archive")):
        metric, labels = "runcomfy_generation_phase_duration_seconds", f'phase="{phase}",{_M}'
        dashboard.with_panel(_series(title, "s", *_quantiles(metric, labels)))
    whole = _quantiles("runcomfy_generation_duration_seconds", _M)
    dashboard.with_panel(_series("From the submission to the archive", "s", *whole))


def _money(dashboard: Dashboard) -> None:
    dashboard.with_row(Row("Money"))
    hourly = f"sum by (model) (increase(runcomfy_cost_usd_total{{{_M}}}[1h]))"
    daily = f"sum by (model) (increase(runcomfy_cost_usd_total{{{_M}}}[1d]))"
    dashboard.with_panel(_stacked(_series("Spent in the hour before", "currencyUSD", ("{{model}}", hourly))))
    dashboard.with_panel(_stacked(_series("Spent in the day before", "currencyUSD", ("{{model}}", daily))))


def _quality(dashboard: Dashboard) -> None:
    files, good = "runcomfy_files_total", f'verdict="good",{_M}'
    all_, good_files = _rare(files, _M, "$__range"), _rare(files, good, "$__range")
    paid, paid_daily = (
        _in_range("runcomfy_cost_usd_total"),
        f"sum by (model) (increase(runcomfy_cost_usd_total{{{_M}}}[1d]))",
    )
    dashboard.with_row(Row("How good it is"))
    for title, expression, unit in (
        ("Files", all_, "short"),
        ("Judged good", good_files, "short"),
        ("Share that is good", f"{good_files} / ({all_} > 0)", "percentunit"),
        ("Cost of a good file, as far as known", f"{paid} / ({good_files} > 0)", "currencyUSD"),
        ("Not in it: requests without known cost",
         _rare("runcomfy_requests_without_cost_total", _M, "$__range"), "short"),
        ("Suspect or damaged", _rare(files, f'verdict=~"suspect|damaged",{_M}', "$__range"), "short"),
    ):  # fmt: skip
        dashboard.with_panel(_stat(title, expression, unit))
    by_model = f"{paid_daily} / ({_rare(files, good, '1d', 'model')} > 0)"
    dashboard.with_panel(_series("Cost of a good file in the day before", "currencyUSD", ("{{model}}", by_model)))
    not_good = _rare(files, f'verdict!="good",{_M}', "$window", "model, verdict")
    dashboard.with_panel(_series("Files that are not good, by verdict", "short", ("{{model}}: {{verdict}}", not_good)))
    dashboard.with_panel(
        _table(
            "Files by model, setting and verdict",
            f"{_rare(files, _M, '$__range', 'model, setting, verdict')} > 0",
        )
    )


def _troubles(dashboard: Dashboard) -> None:
    accepted = 'sum(increase(runcomfy_submissions_total{outcome="accepted"}[$window]))'
    polls = f"sum(increase(runcomfy_polls_total[$window])) / {accepted}"
    calls = "sum by (call, status) (rate(runcomfy_api_call_duration_seconds_count[$__rate_interval]))"
    dashboard.with_row(Row("Troubles, calls and bytes"))
    for title, unit, legend, expression in (
        ("Errors, by type", "short", "{{phase}}: {{error_type}}",
         _rare("runcomfy_errors_total", "", "$window", "phase, error_type")),
        ("Submissions that were not accepted", "short", "{{outcome}}",
         _rare("runcomfy_submissions_total", f'outcome!="accepted",{_M}', "$window", "outcome")),
        ("Tried again, by phase", "short", "{{phase}}", _rare("runcomfy_retries_total", "", "$window", "phase")),
        ("Flow runs that reconcile changed", "short", "{{outcome}}",
         _rare("runcomfy_runs_healed_total", "", "$window", "outcome")),
        ("Looks for each generation", "short", "looks", polls),
        ("API calls", "reqps", "{{call}} {{status}}", calls),
        ("Bytes written to the bucket", "Bps", "{{content}}",
         "sum by (content) (rate(runcomfy_transferred_bytes_total[$__rate_interval]))"),
    ):  # fmt: skip
        dashboard.with_panel(_series(title, unit, (legend, expression)))
    took = _quantiles("runcomfy_api_call_duration_seconds", 'status!="none"')
    dashboard.with_panel(_series("API calls, how long they take", "s", *took))


def _in_range(metric: str, *labels: str) -> str:
    return f"sum(increase({metric}{{{','.join((*labels, _M))}}}[$__range]))"


def _rare(metric: str, labels: str, window: str, by: str = "") -> str:
    """Return an increase that does not miss the first count of a time series that begins with it."""
    series, grouped = f"{metric}{{{labels}}}", f"sum by ({by})" if by else "sum"
    grown, born = (
        f"increase({series}[{window}])",
        f"(min_over_time({series}[{window}]) unless {series} offset {window})",
    )
    return f"{grouped} (({grown} or {born} * 0) + ({born} or {grown} * 0))"


def _quantiles(metric: str, labels: str) -> list[tuple[str, str]]:
    counts = f"sum by (le) (rate({metric}_bucket{{{labels}}}[$window]))"
    return [(f"p{share:.0%}".strip("%"), f"histogram_quantile({share}, {counts})") for share in (0.5, 0.95)]


def _stat(title: str, expression: str, unit: str) -> Stat:
    panel = Stat().title(title).datasource(_SOURCE).unit(unit).no_value("0").height(4).span(_NARROW)
    query = Dataquery().ref_id("A").expr(expression).datasource(_SOURCE).instant()
    return panel.with_target(query).reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))


def _table(title: str, expression: str) -> Table:
    """Return a table with a row for each time series: its labels, and its value."""
    query = Dataquery().ref_id("A").expr(expression).datasource(_SOURCE).instant().format(PromQueryFormat.TABLE)
    panel = Table().title(title).datasource(_SOURCE).height(8).span(2 * _WIDE).decimals(0)
    names = {"model": "Model", "setting": "Setting", "verdict": "Verdict", "Value": "Files"}
    order = {name: number for number, name in enumerate(names)}
    options = {"excludeByName": {"Time": True}, "renameByName": names, "indexByName": order}
    return panel.with_target(query).with_transformation(DataTransformerConfig(id_val="organize", options=options))


def _series(title: str, unit: str, *queries: tuple[str, str]) -> TimeSeries:
    panel = TimeSeries().title(title).datasource(_SOURCE).unit(unit).min(0).height(8).span(_WIDE).fill_opacity(10)
    for name, (legend, expression) in zip("AB", queries, strict=False):
        query = Dataquery().ref_id(name).expr(expression).legend_format(legend).datasource(_SOURCE)
        panel.with_target(query.range())
    return panel


def _stacked(panel: TimeSeries) -> TimeSeries:
    return panel.stacking(StackingConfig().mode(StackingMode.NORMAL).group("A"))


def _bars(panel: Any) -> TimeSeries:
    return _stacked(panel.draw_style(GraphDrawStyle.BARS).fill_opacity(80))


def main() -> None:
    """Write the dashboard."""
    FILE.write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()
