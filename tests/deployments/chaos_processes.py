"""Which processes of one stack are alive, by /proc: the environment of each names its server and its run."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["Process", "Sampler", "descendants", "kill_tree", "processes_of"]

_PROC = Path("/proc")
_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class Process:
    """A process that talks to the server; `run_id` where it is that of a flow run."""

    pid: int
    run_id: str | None


def processes_of(api_url: str) -> list[Process]:
    """Return all processes whose environment names this server."""
    found = []
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            lines = (folder / "environ").read_bytes().split(b"\0")
            if f"PREFECT_API_URL={api_url}".encode() in lines:
                named = [line for line in lines if line.startswith(b"PREFECT__FLOW_RUN_ID=")]
                run_id = named[0].partition(b"=")[2].decode() if named else None
                if (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    found.append(Process(int(folder.name), run_id))
    return found


def descendants(pid: int) -> list[int]:
    """Return the descendants of a process."""
    children: dict[int, list[int]] = defaultdict(list)
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            children[int((folder / "stat").read_text().rpartition(")")[2].split()[1])].append(int(folder.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children[waiting.pop()]
        found += below
        waiting += below
    return found


def kill(pid: int) -> None:
    """Kill a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_tree(pid: int) -> list[int]:
    """Kill a process and all below it, as the end of a machine or a container does; return those below."""
    below = descendants(pid)
    for one in (pid, *below):
        kill(one)
    return below


@dataclass
class Sampler:
    """Records each second which runs have a living process."""

    api_url: str
    seen: dict[tuple[str, int], list[datetime]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Sampler:
        self._thread = threading.Thread(target=self._work, name="sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(_EVERY_SECONDS)

    def look(self) -> dict[str, list[int]]:
        """Return the processes of each run that has one now."""
        now, living = datetime.now(UTC), defaultdict(list)
        for process in processes_of(self.api_url):
            if process.run_id:
                living[process.run_id].append(process.pid)
                self.seen.setdefault((process.run_id, process.pid), [now, now])[1] = now
        return living

    def lived_on(self, run_id: str, at: datetime) -> float:
        """Return for how many seconds after a moment a process of the run that was alive then was still seen."""
        spans = [span for (named, _), span in self.seen.items() if named == run_id and span[0] < at <= span[1]]
        return max(((last - at).total_seconds() for _, last in spans), default=0.0)


def end_all(api_url: str, seconds: float = 20) -> list[int]:
    """Kill every process that still talks to the server, and return them."""
    killed: list[int] = []
    deadline = time.monotonic() + seconds
    while (left := processes_of(api_url)) and time.monotonic() < deadline:
        for process in left:
            kill(process.pid)
            killed.append(process.pid)
        time.sleep(0.2)
    return sorted(set(killed))
