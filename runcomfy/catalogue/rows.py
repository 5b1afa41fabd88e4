"""A row of the catalogue: of a generation in the journal, or of a request that is known from its files only.

A column takes the value of the field with its name (of the entry, the result, the provenance …); only what differs is
computed here.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types
from pydantic import BaseModel

from runcomfy.archive.provenance import Provenance
from runcomfy.catalogue.columns import SCHEMA
from runcomfy.catalogue.values import Row
from runcomfy.journal import Entry, EntryState, Event
from runcomfy.models import inputs_class
from runcomfy.redaction import strip_query
from runcomfy.texts import is_written, prompt_of
from runcomfy.values import ArchivedVideo, Quality, StagedImage, worst

__all__ = ["REQUEST", "created_at", "day_of", "row_of_entry", "row_of_files"]

REQUEST = "request:"
"""Begins the `id` of a row that is no generation of the journal."""

_S = EntryState
_EMPTY: Row = dict.fromkeys(SCHEMA.names)
_UNDER_WAY = (_S.INTENT, _S.SUBMITTED)
_MICRODOLLAR, _MOST_USD = Decimal("0.000001"), 1_000_000
_INPUTS = (
    "resolution", "aspect_ratio", "num_frames", "frames_per_second", "enable_prompt_expansion",
    "enable_safety_checker", "num_inference_steps", "seed",
)  # fmt: skip
_FLOW_RUN = {
    "flow_run_id": "id", "flow_run_name": "name", "flow_name": "flow", "deployment_id": "deployment_id",
    "flow_run_url": "url",
}  # fmt: skip
_BESIDE = ("video_poster_uri", "video_contact_sheet_uri")
_VIDEO = [name for name in SCHEMA.names if name.startswith("video_") and name not in _BESIDE]


def day_of(row: Row) -> date:
    """Return the day of the partition that a row belongs to; it never changes."""
    created: datetime = row["created_at"]
    return created.astimezone(UTC).date()


def row_of_entry(entry: Entry, *, prompts: bool) -> Row:
    """Return the row of a generation.

    Args:
        entry: What the journal knows of it.
        prompts: Whether the prompt is written as it is; its hash always is.
    """
    archive = entry.archive if entry.state is _S.ARCHIVED else None
    result, videos = (archive.result, archive.videos) if archive else (None, ())
    archived_at = _archived_at(entry)
    earlier = entry.earlier_costs_usd
    computed = {
        "id": entry.generation_key,
        "outcome": "under_way" if entry.state in _UNDER_WAY else str(entry.state),
        "attempts": entry.attempt,
        "request_ids": entry.request_ids,
        "cost_usd": _usd(entry.cost_usd),
        "requests_without_cost": _without_cost(entry),
        "archived_at": archived_at if archive else None,
        "archiving_seconds": _seconds(result.noticed_at if result else None, archived_at),
        "reason": entry.reason if prompts else _without_prompt(entry.reason, entry.inputs),
        "warnings": [warning for video in videos for warning in video.warnings],
        "worker": entry.history[-1].worker if entry.history else None,
        "earlier_cost_usd": _usd(sum(earlier.values())) if earlier else None,
        "earlier_requests_with_cost": len(earlier),
        "video_poster_uri": videos[0].poster_uri if videos else None,
        "video_contact_sheet_uri": videos[0].contact_sheet_uri if videos else None,
    }
    return _row(
        computed
        | _inputs(entry.model_id, entry.inputs, entry.image, prompts=prompts)
        | _flow_run(entry.flow_run)
        | _outputs([_of_video(video) for video in videos]),
        *videos[:1],
        entry.cause,
        result,
        entry,
    )


def created_at(document: Provenance) -> datetime:
    """Return when a request without journal was made, as far as its first file says; always the same."""
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
    computed = {
        "id": f"{REQUEST}{first.request_id}",
        "outcome": "archived",
        "created_at": created_at(first),
        "updated_at": last.archived_at,
        "attempts": 1,
        "request_ids": [first.request_id],
        "cost_usd": _usd(first.cost_usd),
        "requests_without_cost": int(_usd(first.cost_usd) is None),
        "noticed_at": first.finished_noticed_at,
        "archived_at": last.archived_at,
        "archiving_seconds": _seconds(first.finished_noticed_at, last.archived_at),
        "warnings": [warning for _, document in ordered for warning in document.warnings],
        "earlier_requests_with_cost": 0,
        "video_poster_uri": first.poster_uri,
        "video_contact_sheet_uri": first.contact_sheet_uri,
    }
    return _row(
        computed
        | _inputs(first.model_id, first.inputs or {}, first.image, prompts=prompts)
        | _flow_run(first.flow_run or {})
        | _outputs([_of_document(uri, document) for uri, document in ordered]),
        first,
    )


def _archived_at(entry: Entry) -> datetime | None:
    """Return when its files were in the bucket: a person's decision about one of them, later, is another event."""
    steps = itertools.pairwise([None, *entry.history])
    at = [now.at for before, now in steps if now and now.state is _S.ARCHIVED and not _is_archived(before)]
    return at[-1] if at else None


def _is_archived(event: Event | None) -> bool:
    return event is not None and event.state is _S.ARCHIVED


def _row(computed: Row, *sources: BaseModel | None) -> Row:
    """Return every column: as computed, else as the last source with a field of its name has it, else null."""
    row = _EMPTY.copy()
    for source in sources:
        if source is not None:
            row |= {name: getattr(source, name) for name in _shared(type(source))}
    return row | computed


@functools.cache
def _shared(source: type[BaseModel]) -> frozenset[str]:
    return frozenset(source.model_fields.keys() & _EMPTY.keys())


def _inputs(model_id: str, inputs: Mapping[str, Any], image: StagedImage | None, *, prompts: bool) -> Row:
    image_field = inputs_class(model_id).image_field
    prompt, url = prompt_of(inputs), inputs.get(image_field)
    settings = {
        name: value
        for name, value in inputs.items()
        if name not in ("prompt", image_field) and (prompts or not is_written(value))
    }
    return {
        "prompt": prompt if prompts else None,
        "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest() if isinstance(prompt, str) else None,
        "image_uri": image.uri if image else strip_query(url) if isinstance(url, str) else None,
        "image_sha256": image.sha256 if image else None,
        **{name: _fitting(name, settings.get(name)) for name in _INPUTS},
        "settings_json": json.dumps(settings, sort_keys=True, ensure_ascii=False) if inputs else None,
    }


def _fitting(name: str, value: Any) -> Any:
    """Return the value of an input; `None` for a whole number that its column cannot hold."""
    column = SCHEMA.field(name).type
    if not isinstance(value, int) or not pa.types.is_integer(column):
        return value
    largest = 2 ** (column.bit_width - 1)
    return value if -largest <= value < largest else None


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    """Return the seconds between two times; `None` if one is unknown, or if their two clocks disagree."""
    seconds = (end - start).total_seconds() if start and end else -1.0
    return seconds if seconds >= 0 else None


def _usd(cost: float | None) -> Decimal | None:
    return Decimal(repr(cost)).quantize(_MICRODOLLAR) if cost is not None and abs(cost) < _MOST_USD else None


def _without_cost(entry: Entry) -> int:
    """Count as the budget of a batch does: every request, and a submission without an answer (yet)."""
    unanswered = entry.state in (_S.INTENT, _S.UNCERTAIN) and entry.request_id is None
    return max(0, len(entry.request_ids) + unanswered - (_usd(entry.cost_usd) is not None))


def _without_prompt(reason: str | None, inputs: Mapping[str, Any]) -> str | None:
    """Cut the prompt out of a reason that quotes it, as it is or escaped."""
    prompt = prompt_of(inputs)
    if reason is None or not isinstance(prompt, str) or not prompt:
        return reason
    for form in (prompt, json.dumps(prompt)[1:-1], json.dumps(prompt, ensure_ascii=False)[1:-1], repr(prompt)[1:-1]):
        reason = reason.replace(form, "[prompt]")
    return reason


def _flow_run(known: Mapping[str, str]) -> Row:
    return {column: known.get(name) for column, name in _FLOW_RUN.items()}


def _outputs(files: Sequence[Row]) -> Row:
    first: Row = files[0] if files else {}
    judged = [file["quality"] for file in files if file["quality"] is not None]
    return {
        "verdict": worst(quality.verdict for quality in judged),
        "verdict_reasons": [reason for quality in judged for reason in quality.reasons] if judged else None,
        "file_reviews": [file["review"] for file in files],
        "file_verdicts": [file["quality"].verdict if file["quality"] is not None else "not_judged" for file in files],
        "output_count": len(files),
        "output_bytes": sum(file["size_bytes"] for file in files),
        **{name: first.get(name.removeprefix("video_")) for name in _VIDEO},
        "outputs": list(files),
    }


def _of_video(video: ArchivedVideo) -> Row:
    return {
        "index": video.index, "uri": video.uri, "provenance_uri": video.provenance_uri, "sha256": video.sha256,
        "size_bytes": video.size_bytes, "content_type": video.content_type, **video.media.model_dump(),
        **_judged(video.quality), "review": _reviewed(video),
    }  # fmt: skip


def _of_document(uri: str, document: Provenance) -> Row:
    return {
        "index": document.output_index, "uri": document.uri, "provenance_uri": uri, "sha256": document.sha256,
        "size_bytes": document.size_bytes, "content_type": document.content_type, **document.media.model_dump(),
        **_judged(document.quality), "review": _reviewed(document),
    }  # fmt: skip


def _judged(quality: Quality | None) -> Row:
    return {"quality": quality, **(quality.facts.model_dump() if quality is not None else {})}


def _reviewed(file: ArchivedVideo | Provenance) -> str | None:
    if file.review is not None:
        return file.review.decision
    return "waiting" if file.set_aside else None
