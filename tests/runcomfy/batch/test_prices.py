"""What a budget counts with: no row that may be paid for is left out, and none counts as free."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runcomfy.batch.plan import PlannedRow
from runcomfy.batch.prepare import prepare
from runcomfy.batch.prices import RowPrices
from runcomfy.batch.run import BatchPolicy
from runcomfy.errors import ConfigurationError
from runcomfy.generation.destination import Destination
from runcomfy.generation.hooks import Hooks
from runcomfy.journal import EntryState, GenerationSpec, Journal, MemoryJournalStore
from runcomfy.models import TextToVideo, workload_of
from runcomfy.models.orders import read_order
from runcomfy.models.pins import Pin, class_of
from runcomfy.polling.forecast import RunTimes
from runcomfy.storage.store import Store

NO_CLIENT: Callable[[], object] = lambda: pytest.fail("the service was asked")  # noqa: E731


@pytest.mark.parametrize(
    "state", [EntryState.INTENT, EntryState.UNCERTAIN, EntryState.SUBMITTED, EntryState.FAILED, EntryState.ERASED]
)
async def test_a_row_that_may_be_paid_for_again_needs_a_price(store: Store, tmp_path: Path, state: EntryState) -> None:
    """It has a request, or may have one; that of an uncertain one is sent again where a user chose that.

    An erased one is not paid for until it is released.
    """
    journal = Journal(MemoryJournalStore())
    current = await journal.create(GenerationSpec(TextToVideo(prompt="rain"), "http://127.0.0.1:1").intent("other:1"))
    assert current is not None
    if state is not EntryState.INTENT:
        await journal.replace(current, current.entry.moved(state, worker="other:1", request_id="r1"))
    (tmp_path / "m.csv").write_text("prompt\nrain\n", encoding="utf-8")

    plan = await prepare(
        str(tmp_path / "m.csv"), Destination(store, journal), {}, Hooks().log,
        client=NO_CLIENT,  # type: ignore[arg-type]
    )  # fmt: skip

    if state is EntryState.ERASED:
        assert BatchPolicy(1, budget_usd=1.0).priced(plan.prices).usd_per_video == 0
        return
    with pytest.raises(ConfigurationError, match="text-to-video"):
        BatchPolicy(1, budget_usd=1.0).priced(plan.prices)
    assert BatchPolicy(1, budget_usd=1.0, usd_per_video=0.2).priced(plan.prices).usd_per_video == 0.2


@pytest.mark.parametrize(("base", "seen", "guess"), [(0, None, None), (0, 0.0, None), (0, 0.3, 0.3), (0.2, 0.1, 0.2)])
def test_what_costs_nothing_by_the_catalogue_is_not_counted_as_free(
    base: float, seen: float | None, guess: float | None
) -> None:
    entry = {"model_id": "a/model", "input_schema": {"properties": {}}, "base_price_usd": base, "price_unit": "output"}
    kind = class_of(Pin.from_entry(entry, "a test"))
    order = read_order({"model": "a/model"}, {}, {"a/model": kind})
    row = PlannedRow(line=2, order=order, staged=(), generation_key="0" * 64, source={})
    run_times = RunTimes(None)
    if seen is not None:
        run_times.record_cost(workload_of("a/model", {}), seen)

    prices = RowPrices.of([row], run_times)

    assert prices.dearest_usd == guess
    assert prices.unknown == ((("a/model", 1),) if guess is None else ())
