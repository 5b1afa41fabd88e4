"""Measure the archiving of a result: time, processor and memory, against two floors and against other ways to do it.

Run `python -m benchmarks.transfer [--size 2GB ...]` by hand; benchmarks/README.md says how to read the table.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.contenders import CONTENDERS, FLOOR
from runcomfy.sandbox.objectstore import running_object_store

__all__ = ["main"]

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
_HEAD = ("size", "way", "seconds", "MB/s", "of the floor", "CPU s/GB", "peak MB", "extra MB")
_DOWNLOAD = "download to nowhere"
Took = Mapping[str, float]


def main() -> None:
    """Measure every way at every size, and print a Markdown table of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", action="append", help="such as 8MB or 2GB; may be repeated")
    parser.add_argument("--repeat", type=int, default=3, help="how often each way is measured; the median counts")
    parser.add_argument("--way", action="append", choices=CONTENDERS, help="only these; may be repeated")
    parser.add_argument("--per-connection-limit", type=float, help="MB/s that the source gives one connection")
    wanted = parser.parse_args()
    ways = [_DOWNLOAD, *(name for name in CONTENDERS if name == FLOOR or name in (wanted.way or CONTENDERS))]
    if importlib.util.find_spec("obstore") is None:
        ways = [name for name in ways if "obstore" not in name]
        print("Without obstore, which is not installed: pip install -e '.[bench]'.", file=sys.stderr)
    print(f"| {' | '.join(_HEAD)} |\n|{'---|' * len(_HEAD)}", flush=True)
    with _source(wanted.per_connection_limit) as source:
        for size in map(_size, wanted.size or ["2MB", "20MB", "200MB"]):
            # All ways in turn, and again: whatever else this machine does affects all of them.
            rounds = [{way: _measure(way, source, size) for way in ways} for _ in range(wanted.repeat)]
            medians = {way: _median([took[way] for took in rounds]) for way in ways}
            floor = max(medians[way]["seconds"] for way in (_DOWNLOAD, FLOOR))
            for way in ways:
                print(f"| {' | '.join(_row(size, way, medians[way], floor))} |", flush=True)


def _size(text: str) -> int:
    return int(float(text[:-2]) * _UNITS[text[-2:].upper()])


@contextmanager
def _source(limit: float | None) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.source"]
    command += [] if limit is None else ["--per-connection-limit", str(limit)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ourselves
        try:
            port = (process.stdout.readline() if process.stdout else "").strip()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _measure(way: str, source: str, size: int) -> Took:
    return _download(f"{source}/{size}.mp4") if way == _DOWNLOAD else _run(way, source, size)


def _download(url: str) -> Took:
    """Read the file to nowhere: no way can be faster than its source."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = time.process_time()
    started = time.perf_counter()
    if curl := shutil.which("curl"):
        subprocess.run([curl, "--silent", "--fail", "--output", os.devnull, url], check=True)  # noqa: S603 - our URL
    else:
        address = urlsplit(url)
        buffer = bytearray(1024 * 1024)
        with socket.create_connection((address.hostname or "", address.port or 80)) as connection:
            connection.sendall(f"GET {address.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            while connection.recv_into(buffer):
                pass
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime + time.process_time() - own
    return {"seconds": seconds, "cpu_seconds": cpu}


def _run(way: str, source: str, size: int) -> Took:
    """Measure one way, with a new store: what the last way wrote is neither there nor still on its way to the disk."""
    with tempfile.TemporaryDirectory() as folder, running_object_store(Path(folder)) as store:
        command = [sys.executable, "-m", "benchmarks.contenders", way, source, store.endpoint_url, "videos", str(size)]
        keys = {"AWS_ACCESS_KEY_ID": store.access_key, "AWS_SECRET_ACCESS_KEY": store.secret_key}
        done = subprocess.run(command, env=os.environ | keys, capture_output=True, text=True, check=False)  # noqa: S603 - ourselves
        if done.returncode:
            raise SystemExit(f"{way} failed:\n{done.stderr}")
        took: Took = json.loads(done.stdout.splitlines()[-1])
        return took


def _median(times: list[Took]) -> Took:
    return {fact: statistics.median(took[fact] for took in times) for fact in times[0]}


def _row(size: int, way: str, took: Took, floor: float) -> tuple[str, ...]:
    memory = [f"{took[fact] / 1e6:.0f}" if fact in took else "" for fact in ("peak_bytes", "extra_bytes")]
    return (
        f"{size / 1e6:,.0f} MB",
        way,
        f"{took['seconds']:.2f}" if took["seconds"] > 1 else f"{took['seconds']:.3f}",
        f"{size / 1e6 / took['seconds']:.0f}",
        f"{floor / took['seconds']:.0%}",
        f"{took['cpu_seconds'] / (size / 1e9):.2f}",
        *memory,
    )


if __name__ == "__main__":
    main()
