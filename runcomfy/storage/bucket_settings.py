"""What the rules of a bucket want with each request: its encryption, its owner, who pays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from runcomfy.errors import ConfigurationError

__all__ = ["PLAIN", "Acl", "BucketSettings", "Encryption"]

Encryption = Literal["", "AES256", "aws:kms", "aws:kms:dsse"]
Acl = Literal["", "private", "bucket-owner-read", "bucket-owner-full-control"]
"""None of those that make objects public: the journal, with every prompt, is in the same bucket."""

_OWNER = re.compile(r"\d{12}")


@dataclass(frozen=True, kw_only=True)
class BucketSettings:
    """What is sent with each request for objects; by default, nothing.

    The names and values are those of S3's API: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html.

    Raises:
        ConfigurationError: a value is none of S3's, or two contradict each other.
    """

    encryption: Encryption = ""
    """How the server encrypts what is written; empty: as the bucket says. `aws:kms` where a key is named."""
    kms_key_id: str = ""
    """The key for SSE-KMS: its id, ARN or alias."""
    acl: Acl = ""
    """Who owns what is written, in a bucket of another account."""
    requester_pays: bool = False
    """Agree to pay for the requests, as such a bucket wants."""
    expected_bucket_owner: str = ""
    """The account that the bucket has to belong to: 12 digits; S3 refuses every call (403) if it is another one's."""

    def __post_init__(self) -> None:
        if self.encryption not in ("", "AES256", "aws:kms", "aws:kms:dsse"):
            raise ConfigurationError("The bucket's encryption is AES256, aws:kms, aws:kms:dsse, or not set.")
        if self.acl not in ("", "private", "bucket-owner-read", "bucket-owner-full-control"):
            raise ConfigurationError(
                "The ACL is private, bucket-owner-read or bucket-owner-full-control, or not set. One that makes "
                "objects public would show the journal and its prompts to everyone."
            )
        if self.kms_key_id and self.encryption == "AES256":
            raise ConfigurationError("A KMS key is named, but AES256 uses none. Set the encryption to aws:kms.")
        if self.kms_key_id != self.kms_key_id.strip() or not self.kms_key_id.isprintable():
            raise ConfigurationError("The KMS key has a blank or a line break around it. Remove it.")
        if self.expected_bucket_owner and not _OWNER.fullmatch(self.expected_bucket_owner):
            raise ConfigurationError("The bucket's owner is the number of an AWS account: 12 digits.")

    @property
    def of_writes(self) -> Mapping[str, str]:
        """Boto3's arguments for what is written."""
        encryption = self.encryption or ("aws:kms" if self.kms_key_id else "")
        named = {"ServerSideEncryption": encryption, "SSEKMSKeyId": self.kms_key_id, "ACL": self.acl}
        return {name: value for name, value in named.items() if value}

    @property
    def words(self) -> list[str]:
        """The options of a command that say the same."""
        named = {
            "--encryption": self.encryption, "--kms-key-id": self.kms_key_id, "--acl": self.acl,
            "--expected-bucket-owner": self.expected_bucket_owner,
        }  # fmt: skip
        words = [word for name, value in named.items() if value for word in (name, value)]
        return [*words, "--requester-pays"] if self.requester_pays else words


PLAIN = BucketSettings()
