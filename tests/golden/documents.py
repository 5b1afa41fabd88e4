"""Documents as this version writes them: the journal's, in every state, and those beside the videos."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from runcomfy.archive.provenance import Provenance
from runcomfy.catalogue.rows import row_of_entry, row_of_files
from runcomfy.errors import GenerationFailed, RequestNotFound, RequestRejected
from runcomfy.journal import Entry, EntryState, GenerationSpec
from runcomfy.models import ImageToVideo, ImageToVideoSettings
from runcomfy.values import Archive, ArchivedVideo, MediaFacts, Result, StagedImage

__all__ = ["entries", "meaning", "meaning_of_files", "provenance"]

_S = EntryState
MOMENT = datetime(2026, 11, 21, 12, 30, 15, 250_000, tzinfo=UTC)
IMAGE = StagedImage(
    bucket="images", key="staged/ab.png", sha256="ab" * 32, size_bytes=51_234, content_type="image/png", width=640,
    height=360, source="s3://pictures/sea.png", uploaded=True,
)  # fmt: skip
MEDIA = MediaFacts(
    container="mp4", codec="h264", width=1280, height=720, frames=81, frames_per_second=16.0, duration_seconds=5.0625
)
FLOW_RUN = {
    "id": "0d0bd8f2-6dd7-4f5a-9a38-8f0a3b7c1d11", "name": "calm-sea", "flow": "image-to-video",
    "deployment_id": "3b1d2c44-0b0f-4c3f-8f63-1f2e0a9c7d22", "url": "http://prefect.example/runs/flow-run/0d0bd8f2",
}  # fmt: skip


def entries() -> dict[str, Entry]:
    """Return an entry in each state, brought there as workers do, and one of a second attempt."""
    began = _asked().intent("host:1")
    accepted = began.moved(
        _S.SUBMITTED, worker="host:1", request_id="request-1", submitted_at=MOMENT + timedelta(seconds=1)
    )
    failed = accepted.moved(
        _S.FAILED, worker="host:1", reason="The model refused the picture.", cost_usd=0.125,
        error=GenerationFailed("The model refused the picture.", error_code="content_policy"),
    )  # fmt: skip
    again = failed.begun_again(_asked(run="run-2").intent("host:2"), worker="host:2").moved(
        _S.SUBMITTED, worker="host:2", request_id="request-2", submitted_at=MOMENT + timedelta(minutes=5)
    )
    uncertain = began.moved(_S.UNCERTAIN, worker="host:1", reason="The connection broke.")
    ended = {
        "intent": began,
        "submitted": accepted,
        "detached": accepted.moved(_S.DETACHED, worker="host:1", reason="It ran for longer than an hour."),
        "uncertain": uncertain,
        "expired": accepted.moved(
            _S.EXPIRED, worker="host:1", reason="The service does not know it.", error=RequestNotFound("Unknown.")
        ),
        "archived": accepted.moved(_S.ARCHIVED, worker="host:1", archive=_archive("request-1"), cost_usd=0.25),
        "failed": failed,
        "refused": began.moved(
            _S.REFUSED, worker="host:1", reason="The seed is too large.",
            error=RequestRejected("The seed is too large.", http_status=422),
        ),
        "cancelled": accepted.moved(_S.CANCELLED, worker="host:1", reason="It was queued for longer than an hour."),
        "released": uncertain.moved(_S.RELEASED, worker="a person", reason="It is not in the account's list."),
        "erased": failed.moved(_S.ERASED, worker="a person").blanked(worker="a person"),
        "archived_at_the_second_attempt": again.moved(
            _S.ARCHIVED, worker="host:2", archive=_archive("request-2"), cost_usd=0.25
        ),
    }  # fmt: skip
    assert {entry.state for entry in ended.values()} == set(EntryState)
    return ended


def provenance() -> Provenance:
    """Return the document beside a video, everything known."""
    video = _archive("request-1").videos[0]
    return Provenance(
        model_id=ImageToVideo.model_id, request_id="request-1", generation_key=_asked().key,
        inputs=_asked().inputs.body() | {"image_url": IMAGE.uri}, image=IMAGE, seed=7, submitted_at=MOMENT,
        finished_noticed_at=MOMENT + timedelta(seconds=62), service_created_at="2026-11-21T12:30:16.1Z",
        service_finished_at="2026-11-21T12:31:15.9Z", queued_seconds=1.5, running_seconds=60.25, cost_usd=0.25,
        polls=9, flow_run=FLOW_RUN, uri=video.uri, output_index=0, source_host="files.example", sha256=video.sha256,
        size_bytes=video.size_bytes, content_type=video.content_type, media=MEDIA, warnings=video.warnings,
        poster_uri=video.poster_uri, digital_source_type=video.digital_source_type, marked=True,
        source_sha256="ef" * 32, archived_at=MOMENT + timedelta(seconds=65), archiver="runcomfy-prefect/0.1.0",
    )  # fmt: skip


def meaning(entry: Entry) -> dict[str, Any]:
    """Return how the journal and the catalogue read an entry."""
    return {
        "may_become": sorted(str(state) for state in EntryState if entry.may_become(state)),
        "request_ids": entry.request_ids,
        "earlier_costs_usd": entry.earlier_costs_usd,
        "attempts_of_its_run": entry.attempts_of(entry.run),
        "row": _plain(row_of_entry(entry, prompts=True)),
    }


def meaning_of_files(document: Provenance) -> dict[str, Any]:
    """Return how the catalogue reads the document beside a video."""
    return dict(_plain(row_of_files({f"{document.uri}.json": document}, prompts=True)))


def _asked(run: str = "run-1") -> GenerationSpec:
    settings = ImageToVideoSettings(seed=7, num_frames=81)
    inputs = ImageToVideo(prompt="Waves, “calm”\nat dawn", image_url=IMAGE.uri, **settings.model_dump())
    return GenerationSpec(
        inputs, "https://model-api.runcomfy.net", (IMAGE,), variation="second take", run=run, flow_run=FLOW_RUN,
        store="s3://videos/marketing/",
    )  # fmt: skip


def _archive(request_id: str) -> Archive:
    key = f"marketing/wan-ai/{request_id}-0.mp4"
    video = ArchivedVideo(
        bucket="videos", key=key, provenance_key=f"{key}.json", sha256="cd" * 32, size_bytes=2_345_678,
        content_type="video/mp4", index=0, request_id=request_id, media=MEDIA, warnings=("It has 81 frames, not 90.",),
        poster_key=f"{key}.jpg", already_archived=False,
        digital_source_type="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
    )  # fmt: skip
    result = Result(
        request_id=request_id, output_count=1, noticed_at=MOMENT + timedelta(seconds=62), queued_seconds=1.5,
        running_seconds=60.25, polls=9, cost_usd=0.25, created_at="2026-11-21T12:30:16.1Z",
    )  # fmt: skip
    return Archive(result=result, videos=(video,))


def _plain(document: Any) -> Any:
    as_text: Callable[[Any], str] = str
    return json.loads(json.dumps(document, default=as_text))
