"""Where the stories play: lanes to one service and one store, used side by side."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from tests.crash.generation import BUCKET, Generation, Lane, Setting
from tests.crash.names import name_api_call, name_s3_call
from tests.crash.points import SCENARIOS, Scenario
from tests.crash.proxy import Proxy, proxies

__all__ = ["Stage"]

_PLAIN = next(scenario for scenario in SCENARIOS if scenario.name == "text")
_T = TypeVar("_T")
_U = TypeVar("_U")


class Stage:
    """A number of lanes, each with proxies of its own.

    Args:
        setting: What they lead to.
        lanes: How many generations play at once at the most.
    """

    def __init__(self, setting: Setting, lanes: int) -> None:
        self._setting, self._size = setting, lanes
        self._lanes: queue.SimpleQueue[Lane] = queue.SimpleQueue()

    @contextmanager
    def open(self) -> Iterator[Stage]:
        """Open the lanes."""
        made = [
            Lane(Proxy(self._setting.sandbox.url, name_api_call), Proxy(self._setting.store.endpoint_url, name_s3_call))
            for _ in range(self._size)
        ]
        with proxies(*(proxy for lane in made for proxy in (lane.api, lane.s3))):
            for lane in made:
                self._lanes.put(lane)
            yield self

    @contextmanager
    def generation(self, scenario: Scenario, *, patience_seconds: int = 1) -> Iterator[Generation]:
        """Prepare a new generation on a lane that nobody else uses in the meantime."""
        lane = self._lanes.get()
        try:
            if not (scenario.new_bucket or lane.notes):  # otherwise it would probe what the store is able to do
                earlier = Generation(self._setting, lane, _PLAIN, patience_seconds)
                earlier.run()
                self._take_notes(earlier)
            generation = Generation(self._setting, lane, scenario, patience_seconds)
            generation.prepare()
            yield generation
            self._take_notes(generation)
        finally:
            self._lanes.put(lane)

    def _take_notes(self, generation: Generation) -> None:
        """Keep the notes of the first generation of a lane."""
        if generation.lane.notes:
            return
        s3 = self._setting.s3
        found = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{generation.prefix}journal/.")
        for key in (entry["Key"] for entry in found.get("Contents", []) if entry["Key"].endswith(".json")):
            body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            generation.lane.notes[key.rpartition("/")[2]] = body

    def side_by_side(self, play: Callable[[_T], _U], parts: Iterable[_T], *, at_once: int = 4) -> list[_U]:
        """Play every story, some at once."""
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(play, parts))
