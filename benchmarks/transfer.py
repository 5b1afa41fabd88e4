"""Measure the archiving of a result: time, processor and memory, against a plain download and a naive upload.

Run `python -m benchmarks.transfer [--size 2GB ...]` by hand; benchmarks/README.md says how to read the table.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.contenders import CONTENDERS
from runcomfy.sandbox.objectstore import ObjectStore, running_object_store

__all__ = ["main"]

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
_HEAD = ("size", "way", "seconds", "MB/s", "x floor", "CPU s/GB", "peak MB", "extra MB")


def _size(text: str) -> int:
    return int(float(text[:-2]) * _UNITS[text[-2:].upper()])


@contextmanager
def _source(size_bytes: int) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.source", str(size_bytes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ourselves
        try:
            port = (process.stdout.readline() if process.stdout else "").strip()
            yield f"http://127.0.0.1:{port}/video.mp4"
        finally:
            process.terminate()


def _floor(url: str) -> dict[str, Any]:
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
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            while connection.recv_into(buffer):
                pass
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime + time.process_time() - own
    return {"seconds": seconds, "cpu_seconds": cpu}


def _run(name: str, url: str, store: ObjectStore, key: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.contenders", name, url, store.endpoint_url, "videos", key]
    keys = {"AWS_ACCESS_KEY_ID": store.access_key, "AWS_SECRET_ACCESS_KEY": store.secret_key}
    done = subprocess.run(command, env=os.environ | keys, capture_output=True, text=True, check=False)  # noqa: S603 - ourselves
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    took: dict[str, Any] = json.loads(done.stdout)
    return took


def _row(size_bytes: int, name: str, took: dict[str, Any], floor_seconds: float) -> tuple[str, ...]:
    memory = [f"{took[fact] / 1e6:.0f}" if fact in took else "" for fact in ("peak_bytes", "extra_bytes")]
    return (
        f"{size_bytes / 1e6:,.0f} MB",
        name,
        f"{took['seconds']:.2f}",
        f"{size_bytes / 1e6 / took['seconds']:.0f}",
        f"{took['seconds'] / floor_seconds:.1f}",
        f"{took['cpu_seconds'] / (size_bytes / 1e9):.2f}",
        *memory,
    )


def main() -> None:
    """Measure every way at every size, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", action="append", help="such as 8MB or 2GB; may be repeated")
    sizes = [_size(text) for text in parser.parse_args().size or ["8MB", "200MB", "2GB"]]
    print(f"| {' | '.join(_HEAD)} |\n|{'---|' * len(_HEAD)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for number, size in enumerate(sizes):
            # A store of its own for each size: what the last one left behind is flushed and gone.
            directory = Path(folder) / str(number)
            directory.mkdir()
            with _source(size) as url, running_object_store(directory) as store:
                floor = _floor(url)
                rows = [("download to nowhere", floor)]
                rows += [(name, _run(name, url, store, f"c{at}")) for at, name in enumerate(CONTENDERS)]
            for name, took in rows:
                print(f"| {' | '.join(_row(size, name, took, floor['seconds']))} |", flush=True)
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()
