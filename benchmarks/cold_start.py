"""How long a fresh process takes until it does something: `python -m benchmarks.cold_start [--times 7]`.

The command line, imports, and the first clients, against an empty Python and against `import prefect`. Each is a
process of its own, all take turns, and the median counts; files are in the machine's cache.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

from tests.deployments.conftest import ROOT

__all__ = ["main"]

_HEAVY = ("httpx", "boto3", "PIL", "av", "pyarrow", "prefect")
_STARTS: dict[str, tuple[str, ...]] = {
    "floor: python -c pass": ("-c", "pass"),
    "floor: import cyclopts, pydantic": ("-c", "import cyclopts, pydantic; pydantic.BaseModel"),
    "floor: import boto3": ("-c", "import boto3"),
    "floor: import prefect": ("-c", "import prefect; prefect.flow"),
    "peer: prefect --help": ("-m", "prefect", "--help"),
    "prefect-runcomfy --help": ("-m", "runcomfy", "--help"),
    "prefect-runcomfy image-to-video --help": ("-m", "runcomfy", "image-to-video", "--help"),
    "prefect-runcomfy batch --help": ("-m", "runcomfy", "batch", "--help"),
    "prefect-runcomfy journal --help": ("-m", "runcomfy", "journal", "--help"),
    "prefect-runcomfy journal list --help": ("-m", "runcomfy", "journal", "list", "--help"),
    "prefect-runcomfy doctor --help": ("-m", "runcomfy", "doctor", "--help"),
    "prefect-runcomfy status (without a token)": ("-m", "runcomfy", "status", "x"),
    "import runcomfy": ("-c", "import runcomfy"),
    "import runcomfy.api.client": ("-c", "import runcomfy.api.client"),
    "import runcomfy.polling.poll": ("-c", "import runcomfy.polling.poll"),
    "import runcomfy.storage.store": ("-c", "import runcomfy.storage.store"),
    "import runcomfy.archive.archive": ("-c", "import runcomfy.archive.archive"),
    "import flows.image_to_video": ("-c", "import flows.image_to_video"),
    "import flows.batch": ("-c", "import flows.batch"),
}
_CLIENTS = """
import sys, time
from runcomfy.api.client import RunComfyClient
from runcomfy.storage.store import Store
def took(make):
    began = time.perf_counter(); make(); return 1000 * (time.perf_counter() - began)
service = [took(lambda: RunComfyClient("token-of-tests")) for _ in range(2)]
store = [took(lambda: Store("videos", region_name="us-east-1")) for _ in range(2)]
print(*service, *store)
"""


def main() -> None:
    """Start everything several times in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=7)
    times = parser.parse_args().times
    seconds: dict[str, list[float]] = {name: [] for name in _STARTS}
    clients = []
    for _ in range(times):
        for name, arguments in _STARTS.items():
            seconds[name].append(_seconds(arguments))
        clients.append([float(word) for word in _output("-c", _CLIENTS).split()])
    table = Table("what", "ms", "x python", "x import prefect", "loads", title=f"medians of {times}")
    medians = {name: statistics.median(measured) for name, measured in seconds.items()}
    for name, arguments in _STARTS.items():
        table.add_row(
            name,
            f"{1000 * medians[name]:.0f}",
            f"{medians[name] / medians['floor: python -c pass']:.0f}",
            f"{medians[name] / medians['floor: import prefect']:.2f}",
            " ".join(_loaded(arguments)),
        )
    Console().print(table)
    names = ("RunComfyClient, the first", "RunComfyClient, the next", "Store, the first", "Store, the next")
    table = Table("client", "ms")
    for name, measured in zip(names, zip(*clients, strict=True), strict=True):
        table.add_row(name, f"{statistics.median(measured):.1f}")
    Console().print(table)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RUNCOMFY_", "PREFECT_", "AWS_"))}
    return kept | {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


def _run(arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - its own program
        [sys.executable, *arguments], cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False
    )


def _seconds(arguments: tuple[str, ...]) -> float:
    began = time.perf_counter()
    _run(arguments)
    return time.perf_counter() - began


def _output(*arguments: str) -> str:
    return _run(arguments).stdout


def _loaded(arguments: tuple[str, ...]) -> list[str]:
    """Return which of the heavy packages are loaded by it: what the interpreter says of its imports."""
    imported = {line.rpartition("|")[2].strip() for line in _run(("-X", "importtime", *arguments)).stderr.splitlines()}
    return [package for package in _HEAVY if package in imported]


if __name__ == "__main__":
    main()
