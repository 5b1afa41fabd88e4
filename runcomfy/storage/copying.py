"""Copy an object within a bucket, on the server: at once, or in parts where it is too large for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runcomfy.storage.upload import LARGEST_PUT_BYTES, CreateOnly, completing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["copy"]

_PART_BYTES = 512 * 1024**2
_MOST_PARTS = 10_000
_UNKNOWN = "application/octet-stream"


def copy(
    client: S3Client, bucket: str, source: str, key: str, *,
    condition: CreateOnly, largest_copy_bytes: int = LARGEST_PUT_BYTES,
) -> None:  # fmt: skip
    """Copy an object, with its content type and metadata; whatever fails, nothing half-made is visible.

    The most that S3 copies at once is what it accepts in one PUT:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html.

    Args:
        client: The client of the store.
        bucket: The bucket.
        source: The key of the object.
        key: The key of the copy.
        condition: The condition of the write; empty for a store without conditional writes.
        largest_copy_bytes: A larger object is copied in parts.

    Raises:
        ClientError: the store refused; 412 if the key exists.
    """
    original = client.head_object(Bucket=bucket, Key=source)
    if original["ContentLength"] <= largest_copy_bytes:
        client.copy_object(Bucket=bucket, Key=key, CopySource={"Bucket": bucket, "Key": source}, **condition)
        return
    size, part_bytes = original["ContentLength"], max(_PART_BYTES, -(-original["ContentLength"] // _MOST_PARTS))
    part_bytes = min(part_bytes, largest_copy_bytes)
    upload_id = client.create_multipart_upload(
        Bucket=bucket, Key=key, ContentType=original.get("ContentType", _UNKNOWN), Metadata=original.get("Metadata", {})
    )["UploadId"]
    with completing(client, bucket, key, upload_id, condition) as done:
        for number, start in enumerate(range(0, size, part_bytes), 1):
            answer = client.upload_part_copy(
                Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number,
                CopySource={"Bucket": bucket, "Key": source},
                CopySourceRange=f"bytes={start}-{min(start + part_bytes, size) - 1}",
            )  # fmt: skip
            done.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
