"""The bucket as this set-up uses it: settings and rights.

Everything is tried out below `journal/.probe-…` of the store's prefix, a name that the journal and `reconcile` ignore,
and is deleted again.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

from runcomfy.connecting import no_connection
from runcomfy.doctor.clock import ServerClock
from runcomfy.doctor.findings import Diagnosis, Mark, broken, not_checked, ok, warning
from runcomfy.doctor.journal import journal_serves
from runcomfy.doctor.lifecycle import lifecycle_serves
from runcomfy.doctor.running import Check, in_thread
from runcomfy.doctor.signing import reachable_from_outside, signed_for, signed_url_serves
from runcomfy.errors import StorageError
from runcomfy.storage.address import bucket_and_prefix, normalized
from runcomfy.storage.keys import PROBES
from runcomfy.storage.s3 import refusal, storage_errors
from runcomfy.storage.store import Store, Upload

__all__ = ["BucketUnderTest", "bucket_checks"]

_AREA = "Bucket"
_CONTENT = b"RunComfy for Prefect tries out this bucket. Delete me.\n"


@dataclass(frozen=True)
class BucketUnderTest:
    """Where videos are stored, and where that is set.

    Args:
        open_store: Makes the store.
        journal: Where the journal is kept, as `runcomfy.journal.open_journal_store` takes it.
        conditional_writes: Whether the server is said to have them.
        source: Where these settings come from, for a person.
    """

    open_store: Callable[[], Store]
    journal: str
    conditional_writes: bool
    source: str


def bucket_checks(
    find: Callable[[], Awaitable[BucketUnderTest]],
    clock: ServerClock,
    *,
    lifetime: timedelta,
    is_sandbox: Callable[[], bool],
    needs: tuple[str, ...] = (),
) -> list[Check]:
    """Return the checks of the bucket; they leave nothing behind, where deleting is allowed.

    Args:
        find: Finds the bucket; a `RunComfyError` that it raises is a finding.
        clock: Records what time the store has.
        lifetime: How long an image's URL is signed for.
        is_sandbox: Whether the service runs on this machine, and so needs no public address; asked after the check
            `credentials`.
        needs: Names of the checks that this depends on.
    """
    checks = _BucketChecks(find, clock, lifetime, is_sandbox)
    tried = ("list", "write", "read", "multipart", "journal", "signed URL")
    return [
        Check(_AREA, "store", checks.store, needs=needs),
        Check(_AREA, "bucket", checks.bucket, needs=("store",), seconds=30),
        Check(_AREA, "list", checks.listing, needs=("bucket",)),
        Check(_AREA, "write", checks.write, needs=("bucket",)),
        Check(_AREA, "read", checks.read, needs=("write",)),
        Check(_AREA, "multipart", checks.multipart, needs=("write",)),
        Check(_AREA, "journal", checks.journal, needs=("bucket",), after=("write",)),
        Check(_AREA, "signed URL", checks.signed_url, needs=("read",)),
        Check(_AREA, "signed for", checks.signed_for, needs=("bucket",)),
        Check(_AREA, "public address", checks.public_address, needs=("store",), after=("credentials", "bucket")),
        Check(_AREA, "lifecycle", checks.lifecycle, needs=("bucket",)),
        Check(_AREA, "delete", checks.delete, needs=("bucket",), after=tried),
    ]


class _BucketChecks:
    _found: BucketUnderTest
    _store: Store

    def __init__(
        self,
        find: Callable[[], Awaitable[BucketUnderTest]],
        clock: ServerClock,
        lifetime: timedelta,
        is_sandbox: Callable[[], bool],
    ) -> None:
        self._find, self._clock, self._lifetime, self._is_sandbox = find, clock, lifetime, is_sandbox
        self._name = f"{PROBES}{uuid.uuid4().hex}"
        self._listing = ok("")
        self._writable = False
        self._written: set[tuple[str, str]] = set()

    @property
    def _key(self) -> str:
        return self._store.key(f"{self._name}/try")

    async def store(self) -> Diagnosis:
        """Find the settings, and make a client of them."""
        self._found = await self._find()
        self._store = store = await in_thread(self._found.open_store)
        where = f" at {store.endpoint_url}" if store.endpoint_url else ""
        return ok(f"{store.uri(store.prefix)}{where}, from {self._found.source}")

    async def bucket(self) -> Diagnosis:
        """Ask for a listing: unlike a HEAD, its refusal says which of bucket, key or secret is wrong."""
        verdict = await in_thread(self._list)
        if verdict.mark is Mark.BROKEN:
            return verdict
        store = self._store
        await in_thread(store.find_region)  # its client may be another one after this

        def record(params: dict[str, Any], **_: Any) -> None:
            self._written.add((params["Bucket"], params["Key"]))

        store.client.meta.events.register("provide-client-params.s3.PutObject", record)
        region, said = store.region_of(), store.region_name
        if said is None or region == said:
            return verdict
        return ok(f"{verdict.found}, in {region}, which overrides the setting {said}")

    async def listing(self) -> Diagnosis:
        """Report how the store answered the listing."""
        return self._listing

    async def write(self) -> Diagnosis:
        """Put a small object."""
        await in_thread(lambda: self._store.put(self._key, _CONTENT, content_type="text/plain"))
        self._writable = True
        return ok("allowed")

    async def read(self) -> Diagnosis:
        """Read the object, and compare."""
        content = await in_thread(lambda: self._store.read(self._key, limit_bytes=1024))
        if content != _CONTENT:
            return broken("What was read is not what was written.", "Check what is between this machine and the store.")
        return ok("allowed")

    async def multipart(self) -> Diagnosis:
        """Begin an upload in parts, as a video's, and abort it."""
        store, key = self._store, f"{self._key}-parts"

        def begin_and_abort() -> Diagnosis:
            with storage_errors("begin an upload in parts to", store.bucket, key):
                upload = store.client.create_multipart_upload(Bucket=store.bucket, Key=key)
            try:
                store.abort_upload(Upload(key, upload["UploadId"], self._clock.now()))
            except StorageError as error:
                return warning(
                    f"{error.message.partition('. ')[0]}. The upload to {key} is left behind.",
                    "Allow s3:AbortMultipartUpload, or a broken upload costs money indefinitely.",
                )
            return ok("allowed")

        return await in_thread(begin_and_abort)

    async def journal(self) -> Diagnosis:
        """Try out the journal's store."""
        if self._found.journal == "bucket" and not self._writable:
            return not_checked("because of: write")
        return await in_thread(
            lambda: journal_serves(self._store, self._name, self._found.journal, self._found.conditional_writes)
        )

    async def signed_url(self) -> Diagnosis:
        """Fetch the object by a signed URL, as RunComfy fetches an image."""
        return await signed_url_serves(self._store, self._key, len(_CONTENT))

    async def signed_for(self) -> Diagnosis:
        """Compare the credentials' life with that of a signed URL."""
        return await in_thread(lambda: signed_for(self._store, self._lifetime))

    async def lifecycle(self) -> Diagnosis:
        """Compare the bucket's rules with what may expire."""
        return await in_thread(lambda: lifecycle_serves(self._store, self._journal_elsewhere))

    async def public_address(self) -> Diagnosis:
        """Check the address that images are signed for."""
        if self._is_sandbox():
            return ok("not needed: the service runs on this machine")
        return await in_thread(lambda: reachable_from_outside(self._store))

    async def delete(self) -> Diagnosis:
        """Delete all that was written, and make sure that it is gone."""
        if not self._written:
            return not_checked("because nothing was written")
        store, refused = self._store, ""

        def delete_all() -> list[str]:
            nonlocal refused
            left = []
            for bucket, key in sorted(self._written):
                try:
                    store.delete(key, bucket)
                except StorageError as error:
                    refused = str(error.error_code)
                    left.append(store.uri(key, bucket))
            if not left and self._listing.mark is Mark.OK:
                left = [store.uri(found.key) for found in store.list(store.key(self._name))]
            return left

        left = await in_thread(delete_all)
        if not self._writable:
            return not_checked("because of: write")
        if left:
            return warning(
                f"Deleting is refused ({refused}). Left behind: {', '.join(left)}.",
                "Allow s3:DeleteObject: `reconcile` needs it to tidy up, and so do `review` and `erase`.",
            )
        return ok("allowed; nothing is left behind")

    def _journal_elsewhere(self) -> Store | None:
        named = normalized(self._found.journal)
        if not named.startswith("s3://"):
            return None
        store = copy.copy(self._store)
        store.bucket, prefix = bucket_and_prefix(named, "The journal")
        store.prefix = f"{prefix.strip('/')}/".lstrip("/")
        return store

    def _list(self) -> Diagnosis:
        store, host = self._store, urlsplit(self._store.client.meta.endpoint_url).netloc
        with storage_errors("list", store.bucket, store.prefix):
            try:
                answer: Any = store.client.list_objects_v2(Bucket=store.bucket, Prefix=store.prefix, MaxKeys=1)
            except (ConnectionError, HTTPClientError) as error:  # what went wrong on the way, before any answer
                return broken(*no_connection(error, host))
            except ClientError as error:
                self._record_time(host, error.response)
                code, _ = refusal(error)
                if code == "RequestTimeTooSkewed":
                    return broken("The store refuses this machine's time.", "See the line `clock`.")
                if code != "AccessDenied":
                    raise
                # a missing right, or another account's bucket: the other checks show which
                self._listing = broken("Listing is refused (AccessDenied).", "Allow s3:ListBucket on the bucket.")
                return ok(f"{host} answers")
        self._record_time(host, answer)
        self._listing = ok("allowed")
        return ok("it is there")

    def _record_time(self, host: str, answer: Any) -> None:
        self._clock.record(host, answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date"))
