"""A server and workers as the README has them: SQLite, one process for the server, no containers.

The commands and settings are read from the README itself; only ports and folders differ.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.deployments.stack import ROOT, Stack, is_worker
from tests.ports import free_ports

__all__ = ["ReadmeStack", "readme_commands", "readme_workers", "running_readme_stack"]

_POOL = "runcomfy"


def readme_commands() -> list[list[str]]:
    """Return the commands of the README's `console` blocks, in their order, with the settings before them."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [[word for word in shlex.split(line, comments=True) if word != "&"] for line in typed]


def readme_workers() -> list[str]:
    """Return names for the README's workers: two of the first, and one of another that it starts beside it."""
    told = sum(_is(words, "worker") for words in readme_commands())
    return ["worker1", "worker2", *(["upkeep"] if told > 1 else [])]


def _is(words: list[str], what: str) -> bool:
    """Whether a command starts a server or a worker."""
    return is_worker(words) if what == "worker" else "server" in words and "start" in words


def _settings(words: list[str]) -> dict[str, str]:
    """Return Prefect's settings of `export NAME=value …`, or before a command."""
    found: dict[str, str] = {}
    for word in words[words[:1] == ["export"] :]:
        name, sign, value = word.partition("=")
        if not sign or not re.fullmatch(r"\w+", name):
            break
        if name.startswith("PREFECT_"):
            found[name] = value
    return found


def _without_settings(words: list[str]) -> list[str]:
    """Return a command without the settings before it; its program is the one beside this interpreter."""
    at = next(number for number, word in enumerate(words) if not re.match(r"\w+=", word))
    return [str(Path(sys.executable).parent / Path(words[at]).name), *words[at + 1 :]]


@dataclass(frozen=True)
class ReadmeStack(Stack):
    """A server on SQLite and its workers, as the README starts them."""

    def command(self, name: str) -> list[str]:
        """Return what a process runs; `worker2` is one of `worker`, and `upkeep` is the README's next worker."""
        if name == "server":
            told = [words for words in readme_commands() if _is(words, "server")]
            command = (
                _without_settings(told[0]) if told else [f"{Path(sys.executable).parent}/prefect", "server", "start"]
            )
            return [*command, "--port", str(self.ports["server"])]
        workers = [words for words in readme_commands() if _is(words, "worker")]
        return _without_settings(workers[1 if name == "upkeep" else 0])

    def grace_seconds(self, name: str) -> float:
        """Return how long to wait for the end of a process: nobody kills a worker that they stop in a terminal."""
        return 120.0

    def environment(self, name: str) -> dict[str, str]:
        """Return the settings of the README for a process, and those of this machine."""
        commands = readme_commands()
        own = "server" if name == "server" else "worker"
        told: dict[str, str] = {}
        for words in commands:
            if words[:1] == ["export"] or _is(words, own):
                told |= _settings(words)
        here = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.home), "PREFECT_HOME": str(self.home / name),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        if name == "server":  # a server that has the address of a server would call that one
            told.pop("PREFECT_API_URL", None)
            return told | here | {"PREFECT_SERVER_UI_STATIC_DIRECTORY": str(self.home / "ui")}
        return told | here | {"PREFECT_API_URL": self.api_url, "RUNCOMFY_WORK_POOL": _POOL}


@contextlib.contextmanager
def running_readme_stack() -> Iterator[ReadmeStack]:
    """Start the server; the test creates pool, blocks, deployments and workers."""
    with contextlib.ExitStack() as parts:
        home = Path(tempfile.mkdtemp(prefix="runcomfy-readme-"))
        parts.callback(shutil.rmtree, home, ignore_errors=True)
        (port,) = free_ports()
        stack = ReadmeStack(home, {"server": port}, {})
        parts.callback(stack.stop_all)
        stack.start("server")
        yield stack
