"""The ways to move a file into a bucket, each run alone in a fresh process that prints what it took, as JSON.

`python -m benchmarks.contenders NAME URL ENDPOINT BUCKET KEY`, with the store's keys in the usual AWS variables.
Memory is the peak resident set of the whole process, and what of it came on top after everything was imported and set
up.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO, cast

import boto3
import httpx

from runcomfy.archiving import GenerationFacts, archive_output
from runcomfy.hosts import HostPolicy
from runcomfy.store import Store

__all__ = ["CONTENDERS"]


class _Readable:
    """What `upload_fileobj` wants of a stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = bytearray()

    def read(self, amount: int = -1) -> bytes:
        while (amount < 0 or len(self._rest) < amount) and (chunk := next(self._chunks, None)):
            self._rest += chunk
        end = len(self._rest) if amount < 0 else amount
        piece, self._rest = bytes(self._rest[:end]), self._rest[end:]
        return piece


def ours(url: str, endpoint: str, bucket: str, key: str) -> Callable[[], None]:
    """Archive: hashed, checked, conditional, with provenance."""
    store = Store(bucket, key, session=boto3.Session(region_name="us-east-1"), endpoint_url=endpoint)
    facts = GenerationFacts(model_id="m", request_id="r")
    hosts = HostPolicy(allowed=("127.0.0.1",))
    return lambda: print(asyncio.run(archive_output(url, 0, facts, store, hosts=hosts)).size_bytes, file=sys.stderr)


def naive(url: str, endpoint: str, bucket: str, key: str) -> Callable[[], None]:
    """Feed boto3's `upload_fileobj` from an httpx stream, with the defaults of both; nothing is checked."""
    client = boto3.Session(region_name="us-east-1").client("s3", endpoint_url=endpoint)

    def move() -> None:
        with httpx.stream("GET", url) as response:
            client.upload_fileobj(cast(IO[bytes], _Readable(response.iter_raw())), bucket, key)

    return move


CONTENDERS = {"archive_output": ours, "httpx into upload_fileobj": naive}


def main(name: str, *where: str) -> None:
    """Set up, measure one transfer, print."""
    move = CONTENDERS[name](*where)
    idle = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    move()
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    took = {
        "seconds": seconds,
        "cpu_seconds": after.ru_utime + after.ru_stime - idle.ru_utime - idle.ru_stime,
        "peak_bytes": after.ru_maxrss * 1024,
        "extra_bytes": (after.ru_maxrss - idle.ru_maxrss) * 1024,
    }
    print(json.dumps(took))


if __name__ == "__main__":
    main(*sys.argv[1:])
