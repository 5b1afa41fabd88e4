"""How each image of an inbox ended: a small object each, so that one listing shows what is new.

It saves work and records what was set aside, but it is not a lock: the journal ensures that nothing is paid for twice.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from runcomfy.inbox.images import InboxImage
from runcomfy.redaction import redact
from runcomfy.storage.store import Store

__all__ = ["Ledger", "LedgerRecord"]

_FOLDER = "inbox/"
_MESSAGES = "inbox/messages/"
_TYPE = "application/json"
_MAX_BYTES = 256 * 1024
_NAME = re.compile(r"[0-9a-f]{64}")


class LedgerRecord(BaseModel):
    """How one version of an image ended; it is not processed again until the image or a sidecar changes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: str
    """The image, `s3://bucket/key`."""
    etag: str
    outcome: Literal["archived", "failed", "rejected"]
    """`failed` at the service; `rejected` without being paid for."""
    generation_key: str | None = None
    reason: str | None = None
    at: datetime


class Ledger:
    """The records, in the folder `inbox/` below a store's prefix. All methods block.

    Args:
        store: The bucket and prefix.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.uri = store.uri(store.key(_FOLDER))

    def identities(self) -> set[str]:
        """Return the identity of every recorded version of an image; a call for each thousand.

        Raises:
            StorageError: the store failed.
        """
        folder = self._store.key(_FOLDER)
        names = (found.key.removeprefix(folder).removesuffix(".json") for found in self._store.list(folder))
        return {name for name in names if _NAME.fullmatch(name)}

    def read(self, image: InboxImage) -> LedgerRecord | None:
        """Return the record of this version of an image, if there is one that can be read.

        Raises:
            StorageError: the store failed.
        """
        found = self._store.read_version(self._key(image), limit_bytes=_MAX_BYTES)
        try:
            return LedgerRecord.model_validate_json(found.body) if found else None
        except ValidationError:
            return None

    def write(
        self,
        image: InboxImage,
        outcome: Literal["archived", "failed", "rejected"],
        *,
        generation_key: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Record how this version of an image ended, instead of an earlier record.

        Raises:
            StorageError: the store failed.
        """
        record = LedgerRecord(
            source=image.uri,
            etag=image.object.etag,
            outcome=outcome,
            generation_key=generation_key,
            reason=redact(reason),
            at=datetime.now(UTC),
        )
        self._store.put(self._key(image), record.model_dump_json(indent=2).encode(), content_type=_TYPE)

    def keep_message(self, message_id: str, body: str, reason: str) -> str:
        """Keep a message that is not a notice, shortened and without secrets; return where, `s3://…`.

        Raises:
            StorageError: the store failed.
        """
        kept = {"message_id": message_id, "reason": reason, "at": datetime.now(UTC).isoformat(), "body": redact(body)}
        key = self._store.key(f"{_MESSAGES}{re.sub(r'[^A-Za-z0-9-]', '-', message_id)[:100]}.json")
        self._store.put(key, json.dumps(kept, indent=2).encode(), content_type=_TYPE)
        return self._store.uri(key)

    def _key(self, image: InboxImage) -> str:
        return self._store.key(f"{_FOLDER}{image.identity}.json")
