"""What a person wants to know of the journal: what needs them, how old it is, what it may cost, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any, Literal

from runcomfy.journal import Entry, EntryState, Versioned
from runcomfy.journal.advice import Advice, Who, advise
from runcomfy.journal.situation import Situation
from runcomfy.storage.commands import StoreOptions
from runcomfy.texts import prompt_of

__all__ = ["Item", "Stake", "Total", "totals", "view"]

_S = EntryState
_MAYBE_BILLED = frozenset({_S.INTENT, _S.SUBMITTED, _S.DETACHED, _S.UNCERTAIN, _S.EXPIRED})


@dataclass(frozen=True)
class Stake:
    """What a generation has cost, or may cost; `usd` is `None` if it is unknown."""

    usd: float | None
    basis: Literal["known", "estimated", "unknown"]

    def __str__(self) -> str:
        if self.usd is None:
            return "?"
        return f"{'~' if self.basis == 'estimated' else ''}{_amount(self.usd)}"


@dataclass(frozen=True)
class Item:
    """An entry, as of now."""

    entry: Entry
    began_at: datetime
    """When the present attempt was about to be sent."""
    age_seconds: float
    """Since then."""
    stake: Stake
    advice: Advice

    @property
    def needs_person(self) -> bool:
        """Whether it waits for a person's decision."""
        return self.advice.who is not Who.NOBODY

    @property
    def prompt(self) -> str:
        """What was asked for."""
        return prompt_of(self.entry.inputs) or ""

    def described(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        entry = self.entry
        return {
            "generation_key": entry.generation_key,
            "state": str(entry.state),
            "needs_person": self.needs_person,
            "began_at": self.began_at.isoformat(),
            "updated_at": entry.updated_at.isoformat(),
            "age_seconds": round(self.age_seconds, 1),
            "model_id": entry.model_id,
            "request_id": entry.request_id,
            "attempt": entry.attempt,
            "usd": self.stake.usd,
            "usd_basis": self.stake.basis,
            "prompt": self.prompt,
            "reason": self.advice.happened or None,
            "what_now": self.advice.text,
            "paid_for": self.advice.paid,
            "who_acts": str(self.advice.who),
            "commands": [command._asdict() for command in self.advice.commands],
        }


@dataclass(frozen=True)
class Total:
    """What several generations have cost, or may cost."""

    generations: int
    usd_known: float
    usd_estimated: float
    unknown: int
    """How many of them have an unknown cost."""

    def __str__(self) -> str:
        usd = f"{'~' if self.usd_estimated else ''}{_amount(self.usd_known + self.usd_estimated)} USD"
        if not self.unknown:
            return usd
        return f"{usd} + {self.unknown} unknown" if self.unknown < self.generations else "unknown"


def view(found: Iterable[Versioned], options: StoreOptions) -> list[Item]:
    """Return every entry as of now: what needs a person first, then the oldest first.

    Args:
        found: The whole journal: the usual cost of a model is estimated from its generations with a known cost.
        options: The store and its journal, as commands name them.
    """
    versions = list(found)
    usual = _usual_costs([version.entry for version in versions])
    now = datetime.now(UTC)
    items = []
    for version in versions:
        entry, began = version.entry, version.entry.began_at
        items.append(
            Item(
                entry=entry,
                began_at=began,
                age_seconds=max(0.0, (now - began).total_seconds()),
                stake=_stake(entry, usual),
                advice=advise(
                    Situation.of(entry, abandoned=entry.state is _S.INTENT and not version.lease_remaining_seconds),
                    options,
                ),
            )
        )
    return sorted(items, key=lambda item: (not item.needs_person, item.began_at, item.entry.generation_key))


def totals(items: Sequence[Item]) -> tuple[dict[EntryState, Total], Total]:
    """Return the sum of each state that there is, in the order of the life of a generation, and that of all."""
    by_state = {
        state: _total([item for item in items if item.entry.state is state])
        for state in EntryState
        if any(item.entry.state is state for item in items)
    }
    return by_state, _total(items)


def _amount(usd: float) -> str:
    """Cents, and their fractions where they count."""
    if usd >= 10:
        return f"{usd:.2f}"
    whole, _, fraction = f"{usd:.4f}".partition(".")
    return f"{whole}.{fraction.rstrip('0'):0<2}"


def _usual_costs(entries: Iterable[Entry]) -> dict[str, float]:
    known: dict[str, list[float]] = {}
    for entry in entries:
        if entry.cost_usd is not None:
            known.setdefault(entry.model_id, []).append(entry.cost_usd)
    return {model_id: median(costs) for model_id, costs in known.items()}


def _stake(entry: Entry, usual: Mapping[str, float]) -> Stake:
    if entry.cost_usd is not None:
        return Stake(entry.cost_usd, "known")
    if entry.state is _S.REFUSED:
        return Stake(0.0, "known")
    if entry.state in _MAYBE_BILLED and entry.model_id in usual:
        return Stake(usual[entry.model_id], "estimated")
    return Stake(None, "unknown")


def _total(items: Sequence[Item]) -> Total:
    def usd(basis: str) -> float:
        return round(sum(item.stake.usd or 0.0 for item in items if item.stake.basis == basis), 6)

    unknown = sum(item.stake.usd is None for item in items)
    return Total(len(items), usd("known"), usd("estimated"), unknown)
