"""Which stories are crashed, and at which points: those of a recorded run. None is listed by hand."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.crash.wire import Answer, Drop, Hook, Point

__all__ = [
    "OF_ANY_MODEL",
    "SCENARIOS",
    "SIGNED",
    "By",
    "Scenario",
    "Trigger",
    "at",
    "is_in_every_run",
    "nth",
    "points_of",
    "writes_of",
]

Act = Callable[[], Drop | Answer | None]
By = Literal["prefect", "command"]
"""What runs a story: a flow, or the command without Prefect."""
_USUALLY_BY: By = "command" if os.environ.get("CRASH_BY") == "command" else "prefect"
Trigger = Callable[[Act], Hook]
"""Makes a hook that acts once its moment has come."""

_POLLED = "api GET status"
_POLLS_THAT_COUNT = 2
_RUN_TIMES = "journal run"


@dataclass(frozen=True)
class Scenario:
    """A story that may crash.

    Args:
        name: What the tables call it.
        flow: The flow that runs.
        before: What has happened before the first run that is recorded or killed: nothing; the generation was archived
            by a run that nobody disturbed; or a request was made elsewhere and is to be fetched.
        directive: The directive for the sandbox in the prompt.
        by: What runs it.
        model: The model of the flow `generate`.
        signed: Whether what is archived is signed (Content Credentials).
        new_bucket: Whether nothing was ever kept where it is archived. Otherwise the notes that earlier generations
            left of what the store is able to do exist, and it is not probed again.
    """

    name: str
    flow: Literal["image-to-video", "text-to-video", "fetch", "generate"]
    before: Literal["nothing", "archived", "requested"] = "nothing"
    directive: str = ""
    new_bucket: bool = False
    by: By = _USUALLY_BY
    model: str = ""
    signed: bool = False


SCENARIOS = (
    Scenario("image", "image-to-video", new_bucket=True),
    Scenario("text", "text-to-video"),
    Scenario("parts", "text-to-video", directive=" [sandbox: output_bytes=9000000]"),
    Scenario("rerun", "text-to-video", before="archived"),
    Scenario("fetch", "fetch", before="requested"),
    Scenario("image by command", "image-to-video", new_bucket=True, by="command"),
    Scenario("text by command", "text-to-video", by="command"),
    Scenario("fetch by command", "fetch", before="requested", by="command"),
)
OF_ANY_MODEL = (
    Scenario("any image", "generate", model="blackforestlabs/flux-2-klein/9b/text-to-image"),
    Scenario("any sound by command", "generate", model="elevenlabs/elevenlabs/music-generation", by="command"),
)
"""Models of the catalogue, which are pinned on their first use: an image, and a sound."""
SIGNED = (
    Scenario("image signed", "image-to-video", signed=True),
    Scenario("text signed by command", "text-to-video", by="command", signed=True),
)


def points_of(trace: Sequence[Point]) -> list[Point]:
    """Return the points of a recorded run; of calls that are repeated until something happens, the first ones."""
    return [point for point in trace if point.name != _POLLED or point.occurrence <= _POLLS_THAT_COUNT]


def is_in_every_run(point: Point) -> bool:
    """Whether a run that nothing stops passes this point, however slow the machine is.

    Of a request that the first poll finds finished there is no second poll, and no run time to note.
    """
    return _RUN_TIMES not in point.name and (point.name != _POLLED or point.occurrence == 1)


def writes_of(trace: Sequence[Point]) -> list[Point]:
    """Return the moments before each write to the store."""
    return [point for point in trace if point.moment == "before" and point.name.startswith(("s3 PUT", "s3 POST"))]


def at(point: Point, *, times: int = 1) -> Trigger:
    """Act at a point, and at the same moment of the next calls of that name up to `times`."""
    struck = range(point.occurrence, point.occurrence + times)

    def trigger(act: Act) -> Hook:
        return lambda seen: (
            act() if seen.name == point.name and seen.moment == point.moment and seen.occurrence in struck else None
        )

    return trigger


def nth(number: int) -> Trigger:
    """Act at the nth point that is passed, whatever it is."""

    def trigger(act: Act) -> Hook:
        passed = itertools.count(1)
        return lambda seen: act() if next(passed) == number else None

    return trigger
