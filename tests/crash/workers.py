"""Start flows in real processes, kill them, and find out how they ended."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Outcome", "Process", "Starter", "Worker", "Workers", "running_workers"]

_ROOT = Path(__file__).parents[2]
_PATIENCE_SECONDS = 900.0
"""Prefect's server on SQLite may wait a minute for a lock and say 503, and its clients pause before they ask again."""


@dataclass(frozen=True)
class Outcome:
    """How a process ended: killed, with an error, or with videos."""

    killed: bool = False
    error: str | None = None
    message: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    videos: tuple[Mapping[str, Any], ...] = ()

    def __str__(self) -> str:
        return "killed" if self.killed else f"{self.error}: {self.message}" if self.error else "archived"


@dataclass
class Worker:
    """One process that runs one flow."""

    file: Path
    _pid: Future[int] = field(default_factory=Future)
    _ended: Future[int] = field(default_factory=Future)

    def kill(self) -> None:
        """Kill it, unless it has ended by itself; from any thread."""
        if not self._ended.done():
            with contextlib.suppress(ProcessLookupError):  # it has ended this very moment
                os.kill(self._pid.result(_PATIENCE_SECONDS), signal.SIGKILL)

    def wait(self) -> Outcome:
        """Wait for its end. One that hangs is killed, and the error shows where it was (the zygote prints that)."""
        if not wait([self._ended], _PATIENCE_SECONDS).done:
            self.kill()
            raise RuntimeError(f"A process did not end: {self._log()}")
        if not self.file.exists():
            if self._ended.result() != -signal.SIGKILL:
                raise RuntimeError(f"A process ended without an outcome: {self._log()}")
            return Outcome(killed=True)
        said = json.loads(self.file.read_text(encoding="utf-8"))
        if "error" in said:
            return Outcome(error=said["error"], message=said["message"], facts=said["facts"])
        return Outcome(videos=tuple(said["value"]))

    def _log(self) -> str:
        return Path(f"{self.file}.log").read_text(encoding="utf-8", errors="replace")


class Process(Protocol):
    """Something that runs one generation, and can be killed."""

    def kill(self) -> None:
        """Kill it."""

    def wait(self) -> Outcome:
        """Wait for its end."""


class Starter(Protocol):
    """Something that starts them."""

    directory: Path

    def start(self, job: Mapping[str, Any], *, fresh: bool = False) -> Process:
        """Start one."""


class Workers:
    """Starts processes, from any thread.

    Args:
        directory: Where outcomes and logs go.
        environment: The environment of every process, which names Prefect's API.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.directory, self._environment = directory, dict(environment)
        self._numbers = itertools.count()
        self._guard = threading.Lock()
        self._by_job: dict[int, Worker] = {}
        self._by_pid: dict[int, Worker] = {}
        self._group = 0  # a new one, of the zygote, which all others join
        self.zygote = self._program()
        self._group = self.zygote.pid
        threading.Thread(target=self._listen, name="zygote", daemon=True).start()

    def start(self, job: Mapping[str, Any], *, fresh: bool = False) -> Worker:
        """Start a process for a job: forked, or with a fresh interpreter."""
        number = next(self._numbers)
        worker = Worker(self.directory / f"outcome-{number}.json")
        line = json.dumps({**job, "number": number, "outcome": str(worker.file)}).encode() + b"\n"
        if fresh:
            process = self._program("once")
            worker._pid.set_result(process.pid)
            threading.Thread(target=lambda: worker._ended.set_result(process.wait()), daemon=True).start()
            _write(process, line)
        else:
            with self._guard:
                self._by_job[number] = worker
                _write(self.zygote, line)
        return worker

    def _program(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.crash.zygote", *arguments],
            cwd=_ROOT, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            process_group=self._group,
        )  # fmt: skip

    def _listen(self) -> None:
        """Record what the zygote reports, until it ends; anything still waited for then gets an error."""
        assert self.zygote.stdout is not None
        for line in self.zygote.stdout:
            said = json.loads(line)
            if "job" in said:
                worker = self._by_pid[said["pid"]] = self._by_job.pop(said["job"])
                worker._pid.set_result(said["pid"])
            else:
                self._by_pid.pop(said["pid"])._ended.set_result(said["status"])
        for worker in (*self._by_job.values(), *self._by_pid.values()):
            worker._ended.set_exception(RuntimeError("The zygote has ended."))


def _write(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


@contextlib.contextmanager
def running_workers(directory: Path, environment: Mapping[str, str]) -> Iterator[Workers]:
    """Run a zygote, and end it and all that it started."""
    workers = Workers(directory, environment)
    try:
        yield workers
    finally:
        os.killpg(workers.zygote.pid, signal.SIGKILL)
        workers.zygote.wait()
