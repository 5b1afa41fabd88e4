"""The ways to move a file into a bucket, each run alone in a fresh process that prints what it took, as JSON.

`python -m benchmarks.contenders NAME SOURCE_URL ENDPOINT BUCKET SIZE_BYTES`, with the store's keys in the usual AWS
variables. A small file goes first and is not counted, so that imports and connections are not measured. All
write parts of 8 MiB, four at once, under a name and a type that no store compresses.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, cast

import boto3
import httpx
import urllib3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

__all__ = ["BEST_KNOWN", "CONTENDERS", "FLOOR", "OURS"]

_PART_BYTES = 8 * 1024 * 1024
_AT_ONCE = 4
_READ_BYTES = 1024 * 1024
_WARM_BYTES = 300_000
_TYPE = {"ContentType": "video/mp4"}
_UNSIGNED = Config(s3={"payload_signing_enabled": False})

Move = Callable[[int], object]
"""Moves the file of so many bytes."""


class Where(NamedTuple):
    """Where the files come from, and where they go."""

    source: str
    endpoint: str
    bucket: str

    def url(self, size_bytes: int) -> str:
        """The file of this size."""
        return f"{self.source}/{size_bytes}.mp4"

    def client(self, config: Config = _UNSIGNED) -> S3Client:
        """A client of boto3's own."""
        return boto3.Session(region_name="us-east-1").client("s3", endpoint_url=self.endpoint, config=config)


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


def memory(where: Where) -> Move:
    """Send bytes from memory, and check nothing: what the store takes."""
    client = where.client(Config(s3={"payload_signing_enabled": False}, request_checksum_calculation="when_required"))
    part = hashlib.shake_128(b"noise").digest(_PART_BYTES)

    def move(size: int) -> None:
        bucket, key = where.bucket, f"{size}.mp4"
        if size < _PART_BYTES:
            client.put_object(Bucket=bucket, Key=key, Body=part[:size], ContentType="video/mp4")
            return
        upload = client.create_multipart_upload(Bucket=bucket, Key=key, ContentType="video/mp4")["UploadId"]

        def send(at: int) -> CompletedPartTypeDef:
            number = at // _PART_BYTES + 1
            body = part[: size - at]
            answer = client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body)
            return {"PartNumber": number, "ETag": answer["ETag"]}

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            parts = list(pool.map(send, range(0, size, _PART_BYTES)))
        client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})

    return move


def ours(where: Where) -> Move:
    """Archive: hashed, checked, conditional, with provenance."""
    from runcomfy.archive.archive import archive_output
    from runcomfy.download.hosts import HostPolicy
    from runcomfy.storage.store import Store
    from runcomfy.values import GenerationFacts

    store = Store(where.bucket, session=boto3.Session(region_name="us-east-1"), endpoint_url=where.endpoint)
    hosts = HostPolicy(allowed=("127.0.0.1",))

    def move(size: int) -> None:
        facts = GenerationFacts(model_id="m", request_id=f"r{size}")
        asyncio.run(archive_output(where.url(size), 0, facts, store, hosts=hosts))

    return move


def boto_urllib3(where: Where) -> Move:
    """Feed boto3's `upload_fileobj` from a urllib3 stream; nothing is checked."""
    client, pool = where.client(), urllib3.PoolManager()
    transfer = TransferConfig(multipart_chunksize=_PART_BYTES, max_concurrency=_AT_ONCE)

    def move(size: int) -> None:
        with pool.request("GET", where.url(size), preload_content=False, decode_content=False) as answer:
            client.upload_fileobj(cast(IO[bytes], answer), where.bucket, f"{size}.mp4", _TYPE, Config=transfer)

    return move


def boto_httpx(where: Where) -> Move:
    """Feed boto3's `upload_fileobj` from an httpx stream, with the defaults of both; nothing is checked."""
    client = where.client(Config())

    def move(size: int) -> None:
        with httpx.stream("GET", where.url(size)) as answer:
            client.upload_fileobj(cast(IO[bytes], _Readable(answer.iter_raw())), where.bucket, f"{size}.mp4", _TYPE)

    return move


def prefect_aws(where: Where) -> Move:
    """Download to a temporary file with httpx, and give it to prefect-aws's `S3Bucket`, as its examples do."""
    import os

    from prefect_aws import AwsCredentials, S3Bucket
    from prefect_aws.client_parameters import AwsClientParameters
    from pydantic import SecretStr

    credentials = AwsCredentials(
        aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=SecretStr(os.environ["AWS_SECRET_ACCESS_KEY"]),
        region_name="us-east-1",
        aws_client_parameters=AwsClientParameters(endpoint_url=where.endpoint),
    )
    bucket = S3Bucket(bucket_name=where.bucket, credentials=credentials)

    async def move(size: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "video.mp4"
            async with httpx.AsyncClient() as client, client.stream("GET", where.url(size)) as answer:
                with path.open("wb") as file:
                    async for chunk in answer.aiter_raw():
                        file.write(chunk)
            await bucket.aupload_from_path(path, f"{size}.mp4", ExtraArgs=_TYPE)

    return lambda size: asyncio.run(move(size))


def _obstore(where: Where, *, hashed: bool) -> Move:
    import os

    import obstore
    from obstore.store import S3Store

    store = S3Store(
        where.bucket, endpoint=where.endpoint, region="us-east-1", virtual_hosted_style_request=False,
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"], secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        unsigned_payload=True, client_options={"allow_http": True},
    )  # fmt: skip
    pool = urllib3.PoolManager()

    def move(size: int) -> None:
        digest = hashlib.sha256()

        def chunks() -> Iterator[bytes]:
            while chunk := answer.read(_READ_BYTES):
                if hashed:
                    digest.update(chunk)
                yield chunk

        with pool.request("GET", where.url(size), preload_content=False, decode_content=False) as answer:
            obstore.put(
                store, f"{size}.mp4", chunks(), chunk_size=_PART_BYTES, max_concurrency=_AT_ONCE,
                attributes={"Content-Type": "video/mp4"},
            )  # fmt: skip

    return move


FLOOR = "parts from memory"
OURS = "archive_output"
BEST_KNOWN = "urllib3 into obstore"
CONTENDERS: Mapping[str, Callable[[Where], Move]] = {
    FLOOR: memory,
    OURS: ours,
    "urllib3 into upload_fileobj": boto_urllib3,
    "httpx into upload_fileobj": boto_httpx,
    "prefect-aws by a temporary file": prefect_aws,
    BEST_KNOWN: lambda where: _obstore(where, hashed=False),
    f"{BEST_KNOWN}, with SHA-256": lambda where: _obstore(where, hashed=True),
}


def _resident(fact: str) -> int:
    """Bytes of memory in use (`VmRSS`), or at their most (`VmHWM`), since `_forget_the_peak` where that works."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines[fact].split()[0]) * 1024


def _forget_the_peak() -> None:
    """Reset the peak, where the system can (Linux)."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def main(name: str, source: str, endpoint: str, bucket: str, size: str) -> None:
    """Set up, measure one transfer, print."""
    move = CONTENDERS[name](Where(source, endpoint, bucket))
    move(_WARM_BYTES)
    _forget_the_peak()
    at_rest = _resident("VmRSS")
    idle = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    move(int(size))
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    peak = _resident("VmHWM")
    took = {
        "seconds": seconds,
        "cpu_seconds": after.ru_utime + after.ru_stime - idle.ru_utime - idle.ru_stime,
        "peak_bytes": peak,
        "extra_bytes": peak - at_rest,
    }
    print(json.dumps(took))


if __name__ == "__main__":
    main(*sys.argv[1:])
