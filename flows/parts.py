"""Do all parts of a flow that do not depend on each other, and fail at the end with those that failed."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from prefect import get_run_logger

__all__ = ["Parts", "PartsFailed"]

_T = TypeVar("_T")


class PartsFailed(Exception):
    """Several parts of a run failed; the others were done."""


class Parts:
    """The parts of a run, and what was wrong with some."""

    def __init__(self) -> None:
        self._failed: dict[str, Exception] = {}

    async def run(self, what: str, part: Awaitable[_T], otherwise: _T) -> _T:
        """Do a part; if it fails, note why and return `otherwise`."""
        try:
            return await part
        except Exception as error:  # any: it is raised at the end
            self.note(what, error)
            return otherwise

    def note(self, what: str, error: Exception | None) -> None:
        """Note that a part failed, if it did."""
        if error is not None:
            get_run_logger().error("Failed: %s (%s: %s). The other parts go on.", what, type(error).__name__, error)
            self._failed[what] = error

    def failed(self, what: str) -> bool:
        """Whether a part failed."""
        return what in self._failed

    def raise_failures(self) -> None:
        """Fail with what failed.

        Raises:
            PartsFailed: more than one part failed. Of a single one, its own error is raised.
        """
        if len(self._failed) == 1:
            raise next(iter(self._failed.values()))
        if self._failed:
            said = "; ".join(f"{what}: {type(error).__name__}: {error}" for what, error in self._failed.items())
            raise PartsFailed(f"The other parts were done, but these failed: {said}") from next(
                iter(self._failed.values())
            )
