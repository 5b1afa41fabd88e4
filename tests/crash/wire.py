"""What passes between a process and the servers: points that are the same in every run, and what is done at them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

__all__ = ["Answer", "Drop", "Hook", "Point", "Wire"]


class Point(NamedTuple):
    """A moment of a run that is the same in every run: before or after the nth call of this name."""

    name: str
    occurrence: int
    moment: Literal["before", "after"]

    def __str__(self) -> str:
        return f"{self.moment} {self.name} #{self.occurrence}"


@dataclass(frozen=True)
class Drop:
    """Close the connection without an answer: with a RST, or cleanly."""

    reset: bool = True


@dataclass(frozen=True)
class Answer:
    """Answer this, whatever the upstream would answer or has answered."""

    status: int
    body: bytes = b""
    content_type: str = "application/xml"

    def to_bytes(self) -> bytes:
        """Write it as HTTP."""
        head = f"HTTP/1.1 {self.status} Injected\r\nContent-Type: {self.content_type}\r\n"
        return f"{head}Content-Length: {len(self.body)}\r\nConnection: close\r\n\r\n".encode() + self.body


Hook = Callable[[Point], Drop | Answer | None]
"""Is shown every point, on the proxies' thread; `None` lets the call go on."""


@dataclass
class Wire:
    """What one run sent over its proxies: the trace of its points, counted by name, and the hook that they pass."""

    hook: Hook = lambda point: None
    trace: list[Point] = field(default_factory=list)
    _counts: Counter[str] = field(default_factory=Counter)

    def number(self, name: str) -> int:
        """Count one more call of this name."""
        self._counts[name] += 1
        return self._counts[name]

    def show(self, point: Point) -> Drop | Answer | None:
        """Record a point, and ask the hook."""
        self.trace.append(point)
        return self.hook(point)
