"""How many files are good, by model and by setting, and what a good one costs: of a batch, or of any selection."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from runcomfy.models.settings import OTHERS, label_of, telling_names
from runcomfy.values import ArchivedVideo

__all__ = ["Judged", "VerdictCounts", "counted", "counted_by_setting", "final_verdict", "verdicts_of"]

_SHOWN = ("good", "suspect", "damaged", "not_judged")
_MOST_SETTINGS = 12  # of one model


@dataclass(frozen=True)
class Judged:
    """One generation: what was asked for, what it cost, and what its files were judged to be."""

    model_id: str
    settings: Mapping[str, str]
    """As `runcomfy.models.settings.settings_of` returns them."""
    verdicts: Sequence[str]
    """The verdict on each of its files; one that an earlier version archived without judging it is not judged."""
    cost_usd: float | None
    """What is known that it cost, US dollars, whether it made a file or not."""
    requests_without_cost: int = 0
    """Requests of it that may be billed and whose cost is unknown."""
    waiting: int = 0
    """Files that were set aside, and that nobody has decided about."""


class VerdictCounts(BaseModel):
    """How many files of a group were judged to be what, and what a good one costs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(default="", description="The model's id; empty for all together.")
    setting: str = Field(default="", description="What was asked for beside the content; empty for all together.")
    generations: int = Field(default=0, description="How many generations, those without a file included.")
    good: int = Field(default=0, description="Files without a fault, and those that a person accepted.")
    suspect: int = Field(default=0, description="Files that a person should look at.")
    damaged: int = Field(default=0, description="Files that do not decode in whole.")
    not_judged: int = Field(default=0, description="Files of which that is unknown.")
    waiting: int = Field(default=0, description="Of all these, files that were set aside and wait for a decision.")
    cost_usd: float = Field(default=0.0, description="What is known that they cost, those without a file included.")
    requests_without_cost: int = Field(default=0, description="Requests that may be billed beyond that.")

    @property
    def files(self) -> int:
        """How many files there are."""
        return self.good + self.suspect + self.damaged + self.not_judged

    @property
    def usd_per_good_file(self) -> float | None:
        """What a good file costs, US dollars: all that is known to have been paid, by the good ones.

        `None` if none is good, or if of none of the requests the cost is known.
        """
        return round(self.cost_usd / self.good, 6) if self.good and self._is_priced else None

    @property
    def _is_priced(self) -> bool:
        """Whether anything is known of the cost; where nothing is, it is not 0."""
        return self.cost_usd > 0 or not self.requests_without_cost

    @property
    def unpriced_because(self) -> str:
        """Why there is no cost of a good file, in two or three words; empty if there is one."""
        if not self.good:
            return "none is good"
        return "" if self._is_priced else "not known"

    @property
    def verdicts(self) -> dict[str, int]:
        """How many files have each verdict."""
        return {verdict: getattr(self, verdict) for verdict in _SHOWN}

    @property
    def sentence(self) -> str:
        """The verdicts and the cost of a good file, as one line; empty if there is no file."""
        if not self.files:
            return ""
        said = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in self.verdicts.items() if count)
        wait = f"; {self.waiting:,} set aside wait{'s' * (self.waiting == 1)} for a decision" if self.waiting else ""
        return f"{said}{wait}; {self.price_sentence}"

    @property
    def price_sentence(self) -> str:
        """What a good file costs, as people read it, and whether something is missing in it."""
        price, unknown = self.usd_per_good_file, self.requests_without_cost
        if not self.good:
            return "no file is good, so none has a price"
        if price is None:
            return f"what a good file costs is not known: of {unknown:,} request{'s' * (unknown != 1)} nothing is"
        more = f", without {unknown:,} request{'s' * (unknown != 1)} of unknown cost" if unknown else ""
        return f"{price:,.4f} USD a good file{more}"


def verdicts_of(videos: Iterable[ArchivedVideo]) -> tuple[str, ...]:
    """Return the verdict on each file: a person's, `good`, where it was set aside and accepted.

    What an earlier version archived was not judged.
    """
    return tuple(
        final_verdict(
            video.quality.verdict if video.quality else "not_judged", video.review.decision if video.review else None
        )
        for video in videos
    )


def final_verdict(verdict: str, review: str | None) -> str:
    """Return what counts of a file: what a person accepted is good, whatever it was judged to be.

    Args:
        verdict: What it was judged to be.
        review: `waiting`, `accepted`, `rejected`, or `None` if it was not set aside.
    """
    return "good" if review == "accepted" else verdict


def counted(generations: Iterable[Judged], model: str = "", setting: str = "") -> VerdictCounts:
    """Return the counts of generations as one group.

    Args:
        generations: Those of the group.
        model: The model, if they share one.
        setting: What they have in common, if they do.
    """
    counts, generation_count, cost, unknown, waiting = dict.fromkeys(_SHOWN, 0), 0, 0.0, 0, 0
    for each in generations:
        generation_count += 1
        cost += each.cost_usd or 0.0
        unknown += each.requests_without_cost
        waiting += each.waiting
        for verdict in each.verdicts:
            counts[verdict if verdict in counts else "not_judged"] += 1
    return VerdictCounts(
        model=model, setting=setting, generations=generation_count, cost_usd=round(cost, 6),
        requests_without_cost=unknown, waiting=waiting, **counts,
    )  # fmt: skip


def counted_by_setting(generations: Iterable[Judged]) -> list[VerdictCounts]:
    """Return the counts by model and setting, the largest groups of a model first; twelve a model, and the others.

    Args:
        generations: Of any models.
    """
    models: defaultdict[str, list[Judged]] = defaultdict(list)
    for each in generations:
        models[each.model_id].append(each)
    found = []
    for model, own in sorted(models.items()):
        names = telling_names(each.settings for each in own)
        groups: defaultdict[str, list[Judged]] = defaultdict(list)
        for each in own:
            groups[label_of(each.settings, names)].append(each)
        ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
        shown, rest = ordered[:_MOST_SETTINGS], ordered[_MOST_SETTINGS:]
        if rest:
            shown.append((OTHERS, [each for _, those in rest for each in those]))
        found += [counted(those, model, label) for label, those in shown]
    return found
