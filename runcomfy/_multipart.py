"""Stream an object into a store in parts, at constant memory, so that it is visible whole or not at all.

boto3's own `upload_fileobj` does nearly this. What it does not do is give up at once when the source breaks: the parts
in flight are failed from within, botocore repeats each with growing pauses, and the abort comes seconds later.
"""

from __future__ import annotations

import base64
import io
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Protocol, TypedDict, cast

from botocore.exceptions import BotoCoreError, ClientError
from zlib_ng.zlib_ng import crc32

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

__all__ = ["Checksum", "CreateOnly", "Part", "SupportsRead", "checksum", "upload_parts"]

_PARTS_IN_FLIGHT = 4
_SENT_AT_ONCE_BYTES = 1024 * 1024


class CreateOnly(TypedDict, total=False):
    """The argument of boto3's writes that lets them only create."""

    IfNoneMatch: str


class Checksum(TypedDict):
    """The argument of boto3's writes by which the store notices a body that was damaged on the way."""

    ChecksumCRC32: str


def checksum(body: bytes | memoryview) -> Checksum:
    """Return the CRC-32 of a body as it is sent in a header.

    Left to itself, botocore sends it behind the body over https, and so cuts the body into pieces of 16 KiB: that takes
    1.3 processor seconds for each GB instead of 0.8, and several times as long. Some stores do not understand it.
    zlib-ng takes a tenth of zlib's time for it.
    """
    return {"ChecksumCRC32": base64.b64encode(crc32(body).to_bytes(4, "big")).decode("ascii")}


class SupportsRead(Protocol):
    """Anything with `read(n) -> bytes`; empty bytes are its end."""

    def read(self, amount: int, /) -> bytes:
        """Return up to `amount` bytes."""


class Part:
    """A part in memory that later parts use again, which boto3 reads as a file.

    Fresh memory for every part would have to be cleared by the kernel page by page, and given back: up to 0.7 processor
    seconds for each GB. A read returns a piece of that memory, however little is asked for, and copies nothing; it is
    no more than the connection takes within its time-out, which counts anew for each.
    """

    def __init__(self, source: SupportsRead, most: int, buffer: bytearray) -> None:
        """Read `most` bytes, fewer only at the source's end, since S3 refuses a part that is too small.

        Args:
            source: What is read.
            most: The length of the part.
            buffer: Where it is kept; an empty one grows to what came, so that a small file takes little.
        """
        self.buffer = buffer
        """May be filled with another part once this one is sent."""
        self._at = size = 0
        while size < most and (piece := source.read(most - size)):
            buffer[size : size + len(piece)] = piece
            size += len(piece)
        self.body = memoryview(buffer)[:size]

    def __len__(self) -> int:
        return len(self.body)

    def read(self, amount: int = -1, /) -> memoryview:
        """Return the next piece; empty at the end."""
        piece = self.body[self._at : self._at + _SENT_AT_ONCE_BYTES]
        self._at += len(piece)
        return piece

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go back to the start, for another attempt."""
        if (offset, whence) != (0, io.SEEK_SET):
            raise io.UnsupportedOperation("a part is read from its start")
        self._at = 0
        return 0


def upload_parts(
    client: S3Client,
    bucket: str,
    key: str,
    first: Part,
    source: SupportsRead,
    *,
    content_type: str,
    metadata: Mapping[str, str],
    condition: CreateOnly,
) -> None:
    """Upload `first` and the rest of `source`, and make the object visible; whatever breaks, nothing stays behind.

    Args:
        client: Speaks to the store.
        bucket: The object's bucket.
        key: The object's key.
        first: The first part, already read. All but the last are as long as it is, and four are held in memory.
        source: What comes after it. An error of its `read` comes out unchanged, after the upload was aborted.
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
        crc = checksum(part.body)
        body = cast(IO[bytes], part)
        answer = client.upload_part(Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=body, **crc)
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": crc["ChecksumCRC32"]}

    done: list[CompletedPartTypeDef] = []
    in_flight: deque[tuple[Part, Future[CompletedPartTypeDef]]] = deque()
    try:
        with ThreadPoolExecutor(_PARTS_IN_FLIGHT, thread_name_prefix="upload") as pool:
            part, number = first, 1
            while part:
                in_flight.append((part, pool.submit(send, number, part)))
                if len(in_flight) < _PARTS_IN_FLIGHT:
                    buffer = bytearray()
                else:
                    oldest, sent = in_flight.popleft()
                    done.append(sent.result())
                    buffer = oldest.buffer
                part, number = Part(source, len(first), buffer), number + 1
            done += [sent.result() for _, sent in in_flight]
        client.complete_multipart_upload(
            Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": done}, **condition
        )
    except BaseException:
        with suppress(BotoCoreError, ClientError):  # what broke before matters more
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
        raise
