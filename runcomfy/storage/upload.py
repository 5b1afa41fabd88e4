"""Upload a file on disk to a store, so that it is visible whole or not at all: by one PUT, or in parts if necessary."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, BinaryIO, Protocol, TypedDict, cast

from botocore.exceptions import BotoCoreError, ClientError
from zlib_ng.zlib_ng import crc32

from runcomfy.storage.s3 import refusal

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

__all__ = [
    "LARGEST_PUT_BYTES",
    "Body",
    "Checksum",
    "CreateOnly",
    "SupportsRead",
    "checksum",
    "completing",
    "encoded_crc",
    "upload",
]

LARGEST_PUT_BYTES = 5 * 1024**3
"""The most that S3 accepts in one PUT (https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html)."""

_PART_BYTES = 16 * 1024 * 1024
_MOST_PARTS = 10_000
_SENT_AT_ONCE_BYTES = 1024 * 1024


class CreateOnly(TypedDict, total=False):
    """The argument of boto3's writes that makes them create only."""

    IfNoneMatch: str


class Checksum(TypedDict):
    """The argument of boto3's writes by which the store notices a body that was damaged on the way."""

    ChecksumCRC32: str


def encoded_crc(crc: int) -> Checksum:
    """Return a CRC-32 as it is sent in a header."""
    return {"ChecksumCRC32": base64.b64encode(crc.to_bytes(4, "big")).decode("ascii")}


def checksum(body: bytes | memoryview) -> Checksum:
    """Return the CRC-32 of a body as it is sent in a header.

    By default, botocore sends it after the body over https, and so cuts the body into pieces of 16 KiB: that takes 1.3
    processor seconds per GB instead of 0.8, and several times as long. Some stores do not understand it. zlib-ng
    computes it in a tenth of zlib's time.
    """
    return encoded_crc(crc32(body))


class SupportsRead(Protocol):
    """Anything with `read(n) -> bytes`; empty bytes are its end."""

    def read(self, amount: int, /) -> bytes:
        """Return up to `amount` bytes."""


class Body:
    """A section of a file, which boto3 reads as a file of its own.

    A read returns a MiB, however little is asked for: botocore asks for 16 KiB, and sending takes several times as long
    in such pieces. A MiB still fits into the connection's time-out, which starts again with each piece.
    """

    def __init__(self, file: BinaryIO, start: int, end: int, crc: int, check: Callable[[], None]) -> None:
        """Describe the bytes of `file` from `start` up to `end`.

        Args:
            file: The file; nothing else may read it in the meantime.
            start: The first byte.
            end: The offset after the last byte.
            crc: Their CRC-32.
            check: Called before each read. What it raises ends the upload; boto3 retries only after an `Exception`.
        """
        self.file, self.start, self.crc, self.check = file, start, crc, check
        self._end = end
        self._at = start

    def __len__(self) -> int:
        return self._end - self.start

    def read(self, amount: int = -1, /) -> bytes:
        """Return the next piece; empty at the end."""
        self.check()
        self.file.seek(self._at)
        piece = self.file.read(min(_SENT_AT_ONCE_BYTES, self._end - self._at))
        self._at += len(piece)
        return piece

    def tell(self) -> int:
        """Return the position within the section."""
        return self._at - self.start

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a position within the section, for another attempt."""
        base = {io.SEEK_SET: self.start, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        self._at = min(max(self.start, base + offset), self._end)
        return self.tell()

    def parts(self) -> Iterator[Body]:
        """Yield it as pieces that are neither too many nor too small for S3."""
        size = max(_PART_BYTES, -(-len(self) // _MOST_PARTS))
        for start in range(self.start, self._end, size):
            yield self._part(start, min(start + size, self._end))

    def _part(self, start: int, end: int) -> Body:
        part = Body(self.file, start, end, 0, self.check)
        while piece := part.read():
            part.crc = crc32(piece, part.crc)
        part.seek(0)
        return part


def upload(
    client: S3Client, bucket: str, key: str, body: Body, *, content_type: str, metadata: Mapping[str, str],
    condition: CreateOnly, largest_put_bytes: int = LARGEST_PUT_BYTES,
) -> None:  # fmt: skip
    """Create an object from a file; whatever fails, nothing is left behind.

    Args:
        client: The client of the store.
        bucket: The object's bucket.
        key: The object's key.
        body: What is sent.
        content_type: The object's content type.
        metadata: The object's own metadata.
        condition: The condition of the write; empty for a store without conditional writes.
        largest_put_bytes: A larger body is sent in parts; so is one that the store says is too large (413).

    Raises:
        ClientError: the store refused; 412 if the object exists.
    """
    if len(body) <= largest_put_bytes:
        body.seek(0)
        try:
            client.put_object(
                Bucket=bucket, Key=key, Body=cast(IO[bytes], body), ContentLength=len(body), ContentType=content_type,
                Metadata=dict(metadata), **encoded_crc(body.crc), **condition,
            )  # fmt: skip
            return
        except ClientError as error:
            code, status = refusal(error)
            if status != 413 and code != "EntityTooLarge":
                raise
    _upload_in_parts(client, bucket, key, body, content_type, metadata, condition)


def _upload_in_parts(
    client: S3Client, bucket: str, key: str, body: Body, content_type: str, metadata: Mapping[str, str],
    condition: CreateOnly,
) -> None:  # fmt: skip
    # AWS wants the checksums announced here, and each of them again at the completion (InvalidRequest otherwise).
    upload_id = client.create_multipart_upload(
        Bucket=bucket, Key=key, ContentType=content_type, Metadata=dict(metadata), ChecksumAlgorithm="CRC32"
    )["UploadId"]
    with completing(client, bucket, key, upload_id, condition) as done:
        for number, part in enumerate(body.parts(), 1):
            crc = encoded_crc(part.crc)
            answer = client.upload_part(
                Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=cast(IO[bytes], part),
                ContentLength=len(part), **crc,
            )  # fmt: skip
            done.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": crc["ChecksumCRC32"]})


@contextmanager
def completing(
    client: S3Client, bucket: str, key: str, upload_id: str, condition: CreateOnly
) -> Iterator[list[CompletedPartTypeDef]]:
    """Complete an upload with the parts that are added to the list; whatever fails, it is aborted.

    Args:
        client: The client of the store.
        bucket: The bucket.
        key: The key of the object.
        upload_id: The upload, which was begun.
        condition: The condition of its completion.

    Raises:
        ClientError: the store refused; 412 if the key exists.
    """
    parts: list[CompletedPartTypeDef] = []
    try:
        yield parts
        client.complete_multipart_upload(
            Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}, **condition
        )
    except BaseException:
        with suppress(BotoCoreError, ClientError):  # the first error matters more
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
        raise
