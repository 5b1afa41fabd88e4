"""Generations and files for the tests of the catalogue, written as workers write them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types
import pyarrow.dataset as ds  # type: ignore[import-untyped]
import pyarrow.fs as fs  # type: ignore[import-untyped]

from runcomfy.archive.provenance import Provenance
from runcomfy.catalogue import TABLE, Update, update
from runcomfy.journal import BucketJournalStore, Entry, EntryState, GenerationSpec, Journal
from runcomfy.models import TextToVideo
from runcomfy.storage.store import Store
from runcomfy.values import Archive, ArchivedVideo, MediaFacts, Result

__all__ = ["DAY", "Archiving", "entry_of", "provenance_of", "video_of"]

DAY = datetime(2026, 11, 21, 12, tzinfo=UTC)
MEDIA = MediaFacts(
    container="mp4", codec="h264", width=64, height=36, frames=81, frames_per_second=16.0, duration_seconds=5.0625
)


def entry_of(prompt: str = "rain", *, begun: datetime = DAY, store: str = "", **inputs: Any) -> Entry:
    """Return a fresh intent that was begun at this moment."""
    spec = GenerationSpec(
        TextToVideo(prompt=prompt, **inputs), "https://service.example", store=store, flow_run={"id": "f1", "name": "n"}
    )
    entry = spec.intent("host:1")
    event = entry.history[0].model_copy(update={"at": begun})
    return entry.model_copy(update={"created_at": begun, "updated_at": begun, "history": (event,)})


def video_of(store: Store, request_id: str, index: int = 0, *, already_archived: bool = False) -> ArchivedVideo:
    key = store.key(f"wan-ai/{request_id}-{index}.mp4")
    return ArchivedVideo(
        bucket=store.bucket, key=key, provenance_key=f"{key}.json", sha256="ab" * 32, size_bytes=1000 + index,
        content_type="video/mp4", index=index, request_id=request_id, media=MEDIA, warnings=("It is short.",),
        already_archived=already_archived,
    )  # fmt: skip


def provenance_of(store: Store, request_id: str, index: int = 0, **known: Any) -> Provenance:
    return Provenance(
        **{
            "model_id": "wan-ai/wan-2-1/text-to-video", "request_id": request_id, "cost_usd": 0.25,
            "uri": video_of(store, request_id, index).uri, "output_index": index, "source_host": "files.example",
            "sha256": "ab" * 32, "size_bytes": 1000 + index, "content_type": "video/mp4", "media": MEDIA,
            "archived_at": DAY + timedelta(seconds=index), "archiver": "runcomfy-prefect/0.1.0",
        }
        | known
    )  # fmt: skip


@dataclass
class Archiving:
    """A store with its journal, in which generations come to their ends, and the catalogue of both."""

    store: Store
    journal: Journal = field(init=False)

    def __post_init__(self) -> None:
        self.journal = Journal(BucketJournalStore(self.store))

    async def begin(self, prompt: str = "rain", **how: Any) -> Entry:
        """Write an intent that was accepted, and return its entry."""
        entry = entry_of(prompt, store=self.store.uri(self.store.prefix), **how)
        await self.journal.create(entry)
        return await self.move(entry, EntryState.SUBMITTED, request_id=str(uuid.uuid4()), submitted_at=entry.created_at)

    async def move(self, entry: Entry, state: EntryState, **changes: Any) -> Entry:
        """Write the next version of an entry."""
        found = await self.journal.read(entry.generation_key)
        assert found is not None
        moved = found.entry.moved(state, worker="host:2", **changes)
        assert await self.journal.replace(found, moved) is not None
        return moved

    async def archive(self, entry: Entry, *, cost_usd: float | None = 0.25, outputs: int = 1, **how: Any) -> Entry:
        """Write the provenance files of an entry's request, then the entry."""
        request_id = entry.request_id or ""
        now = datetime.now(UTC)
        for index in range(0 if how.get("already_archived") else outputs):
            self.put(provenance_of(self.store, request_id, index, generation_key=entry.generation_key))
        result = Result(
            request_id=request_id, output_count=outputs, noticed_at=now, queued_seconds=1.5, running_seconds=60.25,
            polls=7, cost_usd=cost_usd,
        )  # fmt: skip
        videos = tuple(video_of(self.store, request_id, index, **how) for index in range(outputs))
        archive = Archive(result=result, videos=videos)
        return await self.move(entry, EntryState.ARCHIVED, archive=archive, cost_usd=cost_usd)

    def put(self, document: Provenance) -> None:
        """Write a provenance file."""
        key = f"{document.uri.removeprefix(f's3://{self.store.bucket}/')}.json"
        self.store.put(key, document.to_json(), content_type="application/json")

    async def update(self, **options: Any) -> Update:
        return await update(self.store, self.journal, **options)

    def table(self) -> pa.Table:
        """Return the catalogue as a reader sees it, `day` included."""
        credentials = self.store.client._request_signer._credentials  # type: ignore[attr-defined]
        server = fs.S3FileSystem(
            access_key=credentials.access_key, secret_key=credentials.secret_key, scheme="http",
            endpoint_override=str(self.store.endpoint_url).removeprefix("http://"), region="us-east-1",
        )  # fmt: skip
        folder = f"{self.store.bucket}/{self.store.key(TABLE)}"
        partitioning = ds.partitioning(pa.schema([("day", pa.date32())]), flavor="hive")
        return ds.dataset(folder, filesystem=server, partitioning=partitioning).to_table()

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the catalogue by their creation."""
        found: list[dict[str, Any]] = self.table().to_pylist()
        return sorted(found, key=lambda row: (row["created_at"], row["id"]))
