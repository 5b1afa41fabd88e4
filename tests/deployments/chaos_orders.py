"""Orders that arrive over time: by events, by the API, on a schedule, by manifests; each with prompts of its own."""

from __future__ import annotations

import math
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from tests.deployments.chaos_api import Api

__all__ = ["PICTURE", "Order", "Orders", "drawn"]

PICTURE = "s3://images/pictures/boat.jpg"
_SHORTEST_SECONDS, _LONGEST_SECONDS = 5.0, 300.0
_BATCH_EVERY, _ROWS, _ROWS_PER_SHARD = 10, 5, 2
_FAILING_SHARE, _SCHEDULED_SHARE = 0.04, 0.3

Kind = Literal["event", "text", "image", "batch", "batch by event", "batch in shards"]


@dataclass
class Order:
    """An order: one video for each prompt; the prompt carries the directive for the sandbox."""

    number: int
    kind: Kind
    prompts: tuple[str, ...]
    told_to_fail: bool
    after_seconds: float
    """After which part of the time that orders arrive in, in seconds."""
    scheduled_in: float = 0.0
    placed_at: datetime | None = None
    run_id: str | None = None
    """The flow run, where the API said it; that of an event is found by its parameters."""
    cancelled: bool = False
    """Whether a person cancelled it, and the server took that."""
    event_id: str = field(default_factory=lambda: str(uuid.uuid4()))


def drawn(count: int, seconds: float, scale: float, seed: int) -> list[Order]:
    """Draw orders, the earliest first.

    Args:
        count: How many; every tenth is a manifest of five rows.
        seconds: The time within which they arrive.
        scale: The factor of the 5 to 300 seconds of a request at the service.
        seed: The seed of all draws.
    """
    draws = random.Random(f"{seed}:orders")
    orders = []
    for number in range(1, count + 1):
        batch: Sequence[Kind] = ("batch in shards", "batch", "batch by event")
        kind: Kind = draws.choice(("event", "event", "text", "image"))
        if number % _BATCH_EVERY == _BATCH_EVERY // 2:
            kind = batch[number // _BATCH_EVERY % len(batch)]
        failing = not kind.startswith("batch") and draws.random() < _FAILING_SHARE
        prompts = []
        for row in range(1, 1 + (_ROWS if kind.startswith("batch") else 1)):
            runs = scale * math.exp(draws.uniform(math.log(_SHORTEST_SECONDS), math.log(_LONGEST_SECONDS)))
            wish = f"[sandbox: run_seconds={runs:.2f}{' result=failed' if failing else ''}]"
            prompts.append(f"Order {seed}-{number}-{row}: waves come in {wish}")
        later = draws.uniform(5, 30) if kind in ("text", "image") and draws.random() < _SCHEDULED_SHARE else 0.0
        orders.append(Order(number, kind, tuple(prompts), failing, draws.uniform(0, seconds), later))
    return sorted(orders, key=lambda order: order.after_seconds)


class Orders:
    """Places orders from a thread of its own.

    Args:
        api: The server.
        orders: The orders, the earliest first.
        upload: Puts a manifest into the bucket, and returns its URI.
        log: Records what was done.
    """

    def __init__(
        self, api: Api, orders: Sequence[Order], upload: Callable[[str, str], str], log: Callable[..., None]
    ) -> None:
        self.all = list(orders)
        self.trouble: BaseException | None = None
        self.may_come: Callable[[float], bool] = lambda share: True
        """Whether orders may come yet that come after this share of the time; faults may take longer than planned."""
        self._api, self._upload, self._log = api, upload, log
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="orders", daemon=True)

    def __enter__(self) -> Orders:
        self._ids = {name: self._api.deployment(name) for name in ("text-to-video", "image-to-video", "batch")}
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def placed(self) -> list[Order]:
        """Return those that were placed."""
        return [order for order in self.all if order.placed_at is not None]

    def done(self) -> bool:
        """Whether all were placed.

        Raises:
            BaseException: what kept them from being placed.
        """
        if self.trouble is not None:
            raise self.trouble
        return len(self.placed()) == len(self.all)

    def find_runs(self, runs: Sequence[dict[str, Any]]) -> None:
        """Record which runs the events started."""
        by_what = {str(run["parameters"].get("prompt") or run["parameters"].get("manifest")): run for run in runs}
        for order in self.all:
            if order.run_id is None:
                asked = f"s3://images/manifests/{order.number}.csv" if "batch" in order.kind else order.prompts[0]
                order.run_id = by_what.get(asked, {}).get("id")

    def _work(self) -> None:
        began, span = time.monotonic(), max(order.after_seconds for order in self.all)
        try:
            for order in self.all:
                due = began + order.after_seconds
                while time.monotonic() < due or not self.may_come(order.after_seconds / span):
                    if self._stop.wait(0.2):
                        return
                self._place(order)
                order.placed_at = datetime.now(UTC)
                self._log("order", number=order.number, kind=order.kind, run_id=order.run_id)
        except BaseException as trouble:
            self.trouble = trouble

    def _place(self, order: Order) -> None:
        prompt, settings = order.prompts[0], {"seed": order.number}
        at = datetime.now(UTC) + timedelta(seconds=order.scheduled_in) if order.scheduled_in else None
        if order.kind == "event":
            payload = {"picture": PICTURE, "prompt": prompt, "settings": settings}
            self._api.emit("media.picture.ready", order.event_id, PICTURE, payload)
        elif order.kind in ("text", "image"):
            given = {"prompt": prompt, "settings": settings} | ({"image": PICTURE} if order.kind == "image" else {})
            name = "image-to-video" if order.kind == "image" else "text-to-video"
            order.run_id = self._api.create_run(self._ids[name], given, order.event_id, at)
        else:
            manifest = self._upload(f"manifests/{order.number}.csv", "\n".join(("prompt", *order.prompts)) + "\n")
            if order.kind == "batch by event":
                self._api.emit("media.manifest.ready", order.event_id, manifest, {"manifest": manifest})
                return
            asked: dict[str, Any] = {"manifest": manifest}
            if order.kind == "batch in shards":
                asked["rows_per_shard"] = _ROWS_PER_SHARD
            order.run_id = self._api.create_run(self._ids["batch"], asked, order.event_id, at)
