"""Stream an object into a store in parts, at constant memory, so that it is visible whole or not at all.

boto3's own `upload_fileobj` does nearly this. What it does not do is give up at once when the source breaks: the parts
in flight are failed from within, botocore repeats each with growing pauses, and the abort comes seconds later.
"""

from __future__ import annotations

import base64
import functools
import io
import zlib
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Protocol, TypedDict, cast

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

__all__ = ["Checksum", "CreateOnly", "Part", "SupportsRead", "checksum", "upload_parts"]

_PARTS_IN_FLIGHT = 4


class CreateOnly(TypedDict, total=False):
    """The argument of boto3's writes that lets them only create."""

    IfNoneMatch: str


class Checksum(TypedDict):
    """The argument of boto3's writes by which the store notices a body that was damaged on the way."""

    ChecksumCRC32: str


def checksum(crc32: int) -> Checksum:
    """Return the CRC-32 of a body as it is sent in a header.

    Left to itself, botocore sends it behind the body over https, and so cuts the body into pieces of 16 KiB: that takes
    1.3 processor seconds for each GB instead of 0.8, and several times as long. Some stores do not understand it.
    """
    return {"ChecksumCRC32": base64.b64encode(crc32.to_bytes(4, "big")).decode("ascii")}


class SupportsRead(Protocol):
    """Anything with `read(n) -> bytes`; empty bytes are its end."""

    def read(self, amount: int, /) -> bytes:
        """Return up to `amount` bytes."""


class Part:
    """A part as it was read, piece by piece, which boto3 reads as a file.

    A read returns a whole piece, however little is asked for: so no byte is copied before it is sent. Joined, each part
    would be 8 MiB of fresh memory, which the kernel has to clear page by page.
    """

    def __init__(self, source: SupportsRead, size: int) -> None:
        """Read `size` bytes, fewer only at the source's end; S3 refuses a part that is too small."""
        self.pieces: list[bytes] = []
        self._size = self._next = 0
        while self._size < size and (piece := source.read(size - self._size)):
            self.pieces.append(piece)
            self._size += len(piece)

    def __len__(self) -> int:
        return self._size

    @property
    def crc32(self) -> int:
        """The CRC-32 of all of it."""
        return functools.reduce(lambda crc, piece: zlib.crc32(piece, crc), self.pieces, 0)

    def read(self, amount: int = -1, /) -> bytes:
        """Return the next piece; empty at the end."""
        self._next += 1
        return self.pieces[self._next - 1] if self._next <= len(self.pieces) else b""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go back to the start, for another attempt."""
        if (offset, whence) != (0, io.SEEK_SET):
            raise io.UnsupportedOperation("a part is read from its start")
        self._next = 0
        return 0


def upload_parts(
    client: S3Client,
    bucket: str,
    key: str,
    first: Part,
    source: SupportsRead,
    *,
    part_bytes: int,
    content_type: str,
    metadata: Mapping[str, str],
    condition: CreateOnly,
) -> None:
    """Upload `first` and the rest of `source`, and make the object visible; whatever breaks, nothing stays behind.

    Args:
        client: Speaks to the store.
        bucket: The object's bucket.
        key: The object's key.
        first: The first part, already read: `part_bytes` long.
        source: What comes after it. An error of its `read` comes out unchanged, after the upload was aborted.
        part_bytes: The length of each part but the last; about five of them are held in memory.
        content_type: The object's content type.
        metadata: The object's own metadata.
        condition: What the completion depends on; empty for a store without conditional writes.

    Raises:
        ClientError: the store refused; 412 if an object stands there.
    """
    # AWS wants the checksums announced here, and each of them again at the completion (InvalidRequest otherwise).
    upload_id = client.create_multipart_upload(
        Bucket=bucket, Key=key, ContentType=content_type, Metadata=dict(metadata), ChecksumAlgorithm="CRC32"
    )["UploadId"]

    def send(number: int, part: Part) -> CompletedPartTypeDef:
        crc = checksum(part.crc32)
        body = cast(IO[bytes], part)
        answer = client.upload_part(Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=body, **crc)
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": crc["ChecksumCRC32"]}

    done: list[CompletedPartTypeDef] = []
    in_flight: deque[Future[CompletedPartTypeDef]] = deque()
    try:
        with ThreadPoolExecutor(_PARTS_IN_FLIGHT, thread_name_prefix="upload") as pool:
            part, number = first, 1
            while part:
                in_flight.append(pool.submit(send, number, part))
                if len(in_flight) == _PARTS_IN_FLIGHT:
                    done.append(in_flight.popleft().result())
                part, number = Part(source, part_bytes), number + 1
            done += [sent.result() for sent in in_flight]
        client.complete_multipart_upload(
            Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": done}, **condition
        )
    except BaseException:
        with suppress(BotoCoreError, ClientError):  # what broke before matters more
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
        raise
