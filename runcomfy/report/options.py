"""What a user may say of a report: of which generations, and how it is made."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from slugify import slugify

__all__ = ["ReportSettings", "Selection"]


class Selection(BaseModel):
    """Which generations: those that meet everything that is said. Days are those of the catalogue, in UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    since: date | None = Field(default=None, description="The first day. Empty: as `until`.")
    until: date | None = Field(default=None, description="The last day. Empty: the last that the catalogue has.")
    model: str | None = Field(default=None, description="A model's id, or its last part, such as text-to-video.")
    outcome: str | None = Field(default=None, description="An outcome of the catalogue, such as failed.")
    flow_run: str | None = Field(default=None, description="The id or the name of a flow run.")
    deployment: str | None = Field(default=None, description="The id of a deployment.")

    @model_validator(mode="after")
    def _in_order(self) -> Selection:
        if self.since and self.until and self.since > self.until:
            raise ValueError(f"the first day, {self.since}, is after the last one, {self.until}")
        return self

    @property
    def filters(self) -> dict[str, str]:
        """What is asked for beside the days, by name."""
        named = {"model": self.model, "outcome": self.outcome, "flow run": self.flow_run, "deployment": self.deployment}
        return {name: value for name, value in named.items() if value}

    def name(self) -> str:
        """Return what a page of it is called, without an extension; it must have its days by now.

        A day is called by its date; the same selection is always called the same.
        """
        days = f"{self.since}" if self.since == self.until else f"{self.since}_{self.until}"
        return "-".join([days, *(slugify(f"{name} {value}", max_length=80) for name, value in self.filters.items())])

    def includes(self, day: date) -> bool:
        """Whether a day is meant."""
        return (self.since is None or self.since <= day) and (self.until is None or day <= self.until)

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of its days is meant."""
        return (
            (self.model is None or self.model in (row["model_id"], str(row["model_id"]).rpartition("/")[2]))
            and (self.outcome is None or self.outcome == row["outcome"])
            and (self.flow_run is None or self.flow_run in (row["flow_run_id"], row["flow_run_name"]))
            and (self.deployment is None or self.deployment == row["deployment_id"])
        )


class ReportSettings(BaseModel):
    """How a report is made, whatever it is about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    videos: int = Field(default=60, ge=0, le=1000, description="How many videos the gallery has at most.")
    rows: int = Field(default=500, ge=0, le=20_000, description="How many generations the table has at most.")
    budget_usd: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="What the selection may cost, in US dollars."
    )
    usd_per_video: float | None = Field(
        default=None, ge=0, allow_inf_nan=False,
        description="What a request costs whose cost the service has not said, in US dollars; counts in the budget.",
    )  # fmt: skip
    media_base_url: str | None = Field(
        default=None, description="Where the store's folder is published, such as https://cdn.example/videos. Empty: "
        "links lead to the files beside the page, in the bucket."
    )  # fmt: skip
    prefect_ui_url: str | None = Field(
        default=None, description="Where Prefect's pages are, for links to flow runs that did not record their own."
    )
