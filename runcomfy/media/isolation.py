"""The process that decodes a file, from the inside: its bounds, and its answer. `decoding` starts it.

The bytes are untrusted, and decoders are large: a file may crash this process, fill its memory or never let it end. So
it bounds itself, in processor time and memory, and ends when its parent does. It imports nothing but the standard
library, PyAV or Pillow, and its neighbours, which keeps its start short.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["LIMIT_SECONDS", "NO_MEMORY", "TOO_SLOW", "Limits", "run"]

LIMIT_SECONDS = 600.0
"""No file is decoded for longer, however large it is."""
_BASE_SECONDS, _SECONDS_PER_MEGAPIXEL, _SECONDS_PER_SECOND_OF_SOUND = 60.0, 0.1, 0.02
_GRACE_SECONDS = 15.0
_MEMORY_BYTES = 1 << 30
_FRAMES_HELD = 100
"""What a decoder with several threads may hold, in frames of one byte a pixel."""
TOO_SLOW = 75
"""The status that this process ends with when its time is over."""
NO_MEMORY = "it needs more memory than a file is given"
"""What is answered about a file that must not be decoded where nothing bounds the memory."""
_ORPHANED = 76
_WATCH_SECONDS = 0.25


class Limits:
    """The bounds of this process: address space, processor time, and time on the clock."""

    def __init__(self, parent: int) -> None:
        """Set the bounds of a small file; ends the process when `parent` has ended."""
        self._parent, self._began, self._seconds = parent, time.monotonic(), _BASE_SECONDS
        with suppress(OSError):  # Linux: if memory is short all the same, this process goes, not the worker
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
        self._set("RLIMIT_CORE", 0)
        self._set("RLIMIT_FSIZE", 0)
        self.allow(0.0, 0)
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def seconds(self) -> float:
        """How long decoding may take."""
        return self._seconds

    def allow(self, megapixels: float, pixels: int, sound_seconds: float = 0.0) -> None:
        """Set the bounds of a file, by what it says of itself.

        Args:
            megapixels: Of all frames together.
            pixels: Of one frame.
            sound_seconds: How long its sound is.
        """
        wanted = megapixels * _SECONDS_PER_MEGAPIXEL + sound_seconds * _SECONDS_PER_SECOND_OF_SOUND
        self._seconds = min(LIMIT_SECONDS, _BASE_SECONDS + wanted)
        threads = max(1, os.cpu_count() or 1)
        self._set("RLIMIT_CPU", int((self._seconds + _GRACE_SECONDS) * min(threads, 4)))
        self._set("RLIMIT_AS", _address_space() + _MEMORY_BYTES + pixels * _FRAMES_HELD)

    @property
    def over(self) -> bool:
        """Whether decoding should stop now, and what was found be told."""
        return time.monotonic() - self._began > self._seconds

    def _watch(self) -> None:
        while True:
            time.sleep(_WATCH_SECONDS)
            if os.getppid() != self._parent:
                os._exit(_ORPHANED)
            if time.monotonic() - self._began > self._seconds + _GRACE_SECONDS:
                os._exit(TOO_SLOW)

    @staticmethod
    def _set(name: str, value: int) -> None:
        with suppress(ImportError, AttributeError, OSError, ValueError):  # not every platform has each
            import resource

            which = getattr(resource, name)
            hard = resource.getrlimit(which)[1]
            resource.setrlimit(which, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def run(decoded: Callable[[BinaryIO, dict[str, Any], Limits], dict[str, Any]], order: dict[str, Any]) -> None:
    """Decode the file on stdin, as ordered, and print what was found: one JSON object. Ends this process."""
    file = os.fdopen(0, "rb", buffering=0)
    try:
        found = decoded(file, order, Limits(order["parent"]))
    except MemoryError:
        found = {"stopped": NO_MEMORY}
    sys.stdout.write(json.dumps(found, allow_nan=False))
    sys.stdout.flush()
    os._exit(0)  # a decoder that was confused may crash when it is taken down


def _address_space() -> int:
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return _MEMORY_BYTES
