"""A row of the catalogue: of a generation that the journal knows, or of a request that only its files tell of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from runcomfy.archive.provenance import Provenance
from runcomfy.journal import Entry, EntryState
from runcomfy.models import inputs_class
from runcomfy.redaction import strip_query
from runcomfy.values import ArchivedVideo, MediaFacts, StagedImage

__all__ = ["REQUEST", "Row", "created_at", "day_of", "row_of_entry", "row_of_files"]

Row = dict[str, Any]
REQUEST = "request:"
"""Begins the `id` of a row that is no generation of the journal."""

_S = EntryState
_UNDER_WAY = (_S.INTENT, _S.SUBMITTED)
_MICRODOLLAR, _MOST_USD = Decimal("0.000001"), 1_000_000
_ASKED = (
    "resolution", "aspect_ratio", "num_frames", "frames_per_second", "enable_prompt_expansion",
    "enable_safety_checker", "num_inference_steps", "seed",
)  # fmt: skip
_LARGEST = {"seed": 2**63} | dict.fromkeys(("num_frames", "frames_per_second", "num_inference_steps"), 2**31)


def day_of(row: Row) -> date:
    """Return the day of the partition that a row belongs to, for ever."""
    created: datetime = row["created_at"]
    return created.astimezone(UTC).date()


def row_of_entry(entry: Entry, *, prompts: bool) -> Row:
    """Return the row of a generation.

    Args:
        entry: What the journal knows of it.
        prompts: Whether the prompt is written as it is; its hash always is.
    """
    archive = entry.archive if entry.state is _S.ARCHIVED else None
    archived_at = next((event.at for event in reversed(entry.history) if event.state is _S.ARCHIVED), None)
    result = archive.result if archive else None
    noticed_at = result.noticed_at if result else None
    seconds = (archived_at - noticed_at).total_seconds() if archived_at and noticed_at else None
    cause, earlier = entry.cause, entry.earlier_costs_usd
    return {
        "id": entry.generation_key,
        "outcome": "under_way" if entry.state in _UNDER_WAY else str(entry.state),
        "created_at": entry.created_at,
        "updated_at": entry.updated_at,
        "generation_key": entry.generation_key,
        "variation": entry.variation,
        "service": entry.service,
        "model_id": entry.model_id,
        **_asked(entry.model_id, entry.inputs, entry.image, prompts=prompts),
        "attempts": entry.attempt,
        "request_id": entry.request_id,
        "request_ids": entry.request_ids,
        "cost_usd": _usd(entry.cost_usd),
        "requests_without_cost": _without_cost(entry),
        "submitted_at": entry.submitted_at,
        "noticed_at": noticed_at,
        "archived_at": archived_at if archive else None,
        "queued_seconds": result.queued_seconds if result else None,
        "running_seconds": result.running_seconds if result else None,
        "archiving_seconds": seconds if seconds is not None and seconds >= 0 else None,  # of two clocks, perhaps
        "polls": result.polls if result else None,
        "reason": _without_prompt(entry.reason, entry.inputs) if not prompts else entry.reason,
        "warnings": [warning for video in archive.videos for warning in video.warnings] if archive else [],
        "worker": entry.history[-1].worker if entry.history else None,
        **_flow_run(entry.flow_run),
        **_outputs([_of_video(video) for video in archive.videos] if archive else []),
        "archiver": None,
        "error_type": cause.error_type if cause else None,
        "error_code": cause.error_code if cause else None,
        "earlier_cost_usd": _usd(sum(earlier.values())) if earlier else None,
        "earlier_requests_with_cost": len(earlier),
        "flow_run_url": entry.flow_run.get("url"),
        "video_poster_uri": archive.videos[0].poster_uri if archive and archive.videos else None,
        "digital_source_type": archive.videos[0].digital_source_type if archive and archive.videos else None,
    }


def created_at(document: Provenance) -> datetime:
    """Return when a request without journal was made, as far as its first file tells; always the same."""
    if document.submitted_at is not None:
        return document.submitted_at
    try:
        said = datetime.fromisoformat(document.service_created_at or "")
    except ValueError:
        return document.archived_at
    return said if said.tzinfo else said.replace(tzinfo=UTC)


def row_of_files(documents: Mapping[str, Provenance], *, prompts: bool) -> Row:
    """Return the row of a request that the journal does not know.

    Args:
        documents: The provenance of each of its files, by its own `s3://` address.
        prompts: Whether the prompt is written as it is; its hash always is.
    """
    ordered = sorted(documents.items(), key=lambda item: item[1].output_index)
    first, last = ordered[0][1], ordered[-1][1]
    seconds = (last.archived_at - first.finished_noticed_at).total_seconds() if first.finished_noticed_at else None
    return {
        "id": f"{REQUEST}{first.request_id}",
        "outcome": "archived",
        "created_at": created_at(first),
        "updated_at": last.archived_at,
        "generation_key": first.generation_key,
        "variation": None,
        "service": None,
        "model_id": first.model_id,
        **_asked(first.model_id, first.inputs or {}, first.image, prompts=prompts),
        "attempts": 1,
        "request_id": first.request_id,
        "request_ids": [first.request_id],
        "cost_usd": _usd(first.cost_usd),
        "requests_without_cost": int(_usd(first.cost_usd) is None),
        "submitted_at": first.submitted_at,
        "noticed_at": first.finished_noticed_at,
        "archived_at": last.archived_at,
        "queued_seconds": first.queued_seconds,
        "running_seconds": first.running_seconds,
        "archiving_seconds": seconds if seconds is not None and seconds >= 0 else None,
        "polls": first.polls,
        "reason": None,
        "warnings": [warning for _, document in ordered for warning in document.warnings],
        "worker": None,
        **_flow_run(first.flow_run or {}),
        **_outputs([_of_document(uri, document) for uri, document in ordered]),
        "archiver": first.archiver,
        "error_type": None,
        "error_code": None,
        "earlier_cost_usd": None,
        "earlier_requests_with_cost": 0,
        "flow_run_url": (first.flow_run or {}).get("url"),
        "video_poster_uri": first.poster_uri,
        "digital_source_type": first.digital_source_type,
    }


def _asked(model_id: str, inputs: Mapping[str, Any], image: StagedImage | None, *, prompts: bool) -> Row:
    image_field = inputs_class(model_id).image_field
    prompt, url = inputs.get("prompt"), inputs.get(image_field)
    settings = {name: value for name, value in inputs.items() if name not in ("prompt", image_field)}
    return {
        "prompt": prompt if prompts else None,
        "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest() if isinstance(prompt, str) else None,
        "image_uri": image.uri if image else strip_query(url) if isinstance(url, str) else None,
        "image_sha256": image.sha256 if image else None,
        **{name: _fitting(name, settings.get(name)) for name in _ASKED},
        "settings_json": json.dumps(settings, sort_keys=True, ensure_ascii=False) if inputs else None,
    }


def _fitting(name: str, value: Any) -> Any:
    largest = _LARGEST.get(name)
    return None if largest and isinstance(value, int) and not -largest <= value < largest else value


def _usd(cost: float | None) -> Decimal | None:
    return Decimal(repr(cost)).quantize(_MICRODOLLAR) if cost is not None and abs(cost) < _MOST_USD else None


def _without_cost(entry: Entry) -> int:
    """Count as the budget of a batch does: every request, and a submission that nobody knows the answer of (yet)."""
    unanswered = entry.state in (_S.INTENT, _S.UNCERTAIN) and entry.request_id is None
    return max(0, len(entry.request_ids) + unanswered - (_usd(entry.cost_usd) is not None))


def _without_prompt(reason: str | None, inputs: Mapping[str, Any]) -> str | None:
    """Cut the prompt out of a reason that quotes it, as it is or escaped."""
    prompt = inputs.get("prompt")
    if reason is None or not isinstance(prompt, str) or not prompt:
        return reason
    for form in (prompt, json.dumps(prompt)[1:-1], json.dumps(prompt, ensure_ascii=False)[1:-1], repr(prompt)[1:-1]):
        reason = reason.replace(form, "[prompt]")
    return reason


def _flow_run(known: Mapping[str, str]) -> Row:
    return {
        "flow_run_id": known.get("id"),
        "flow_run_name": known.get("name"),
        "flow_name": known.get("flow"),
        "deployment_id": known.get("deployment_id"),
    }


def _outputs(files: Sequence[Row]) -> Row:
    first: Row = files[0] if files else {}
    return {
        "output_count": len(files),
        "output_bytes": sum(file["size_bytes"] for file in files),
        "video_uri": first.get("uri"),
        **{f"video_{name}": first.get(name) for name in _FIRST},
        "outputs": list(files),
    }


_FIRST = (
    "provenance_uri", "sha256", "content_type", "container", "codec", "width", "height", "frames",
    "frames_per_second", "duration_seconds",
)  # fmt: skip


def _of_video(video: ArchivedVideo) -> Row:
    return {
        "index": video.index, "uri": video.uri, "provenance_uri": video.provenance_uri, "sha256": video.sha256,
        "size_bytes": video.size_bytes, "content_type": video.content_type, **_media(video.media),
    }  # fmt: skip


def _of_document(uri: str, document: Provenance) -> Row:
    return {
        "index": document.output_index, "uri": document.uri, "provenance_uri": uri, "sha256": document.sha256,
        "size_bytes": document.size_bytes, "content_type": document.content_type, **_media(document.media),
    }  # fmt: skip


def _media(media: MediaFacts) -> Row:
    return media.model_dump()
