"""What other teams' automations can start on: Prefect events about each generation, and its video as an asset.

They are sent in the background and may be lost with the process; the journal and the provenance are the record.
"""

from __future__ import annotations

import uuid
from typing import Any

from prefect import get_run_logger
from prefect.assets import Asset, AssetProperties
from prefect.context import AssetContext
from prefect.events import emit_event
from pydantic import ValidationError

from runcomfy.generation.hooks import StateChange
from runcomfy.journal import EntryState
from runcomfy.storage.store import Store
from runcomfy.values import ArchivedVideo, GenerationFacts, StagedImage
from tasks.pages.artifacts import address

__all__ = ["ASSET_MADE", "ASSET_READ", "EVENTS", "SET_ASIDE", "emit_archived", "emit_change"]

EVENTS = {
    EntryState.SUBMITTED: "runcomfy.generation.submitted",
    EntryState.ARCHIVED: "runcomfy.generation.archived",
    EntryState.FAILED: "runcomfy.generation.failed",
    EntryState.CANCELLED: "runcomfy.generation.cancelled",
    EntryState.DETACHED: "runcomfy.generation.detached",
    EntryState.UNCERTAIN: "runcomfy.generation.uncertain",
    EntryState.EXPIRED: "runcomfy.generation.expired",
}
"""The events of a generation, by the state that it is in now."""

SET_ASIDE = "runcomfy.generation.set-aside"
"""The event of a file that is below `quarantine/`, where a person decides about it; it comes in place of `archived`."""

ASSET_MADE, ASSET_READ = "prefect.asset.materialization.succeeded", "prefect.asset.referenced"
"""Prefect's own events about an asset; its Cloud makes the pages of assets from them."""

_NAMESPACE = uuid.UUID("5f0b1bd4-52a4-4a3c-9a53-6c4f2d3b7f11")


def emit_change(change: StateChange) -> None:
    """Emit that a generation is in another state, if `EVENTS` names it; its resource is the archive."""
    if change.state not in EVENTS:
        return
    labels = _labels(change.key, change.request_id, change.model_id)
    resource = {"prefect.resource.id": change.archive.rstrip("/"), **labels}
    named = (("reason", change.reason), ("error_type", change.error_type))
    payload = {name: value for name, value in named if value}
    _send(EVENTS[change.state], resource, _generation(change.key), payload, once=None)


def emit_archived(facts: GenerationFacts, video: ArchivedVideo, image: StagedImage | None, store: Store) -> None:
    """Emit that a video is archived, and that the asset of its URI is materialised, with the image as upstream.

    Of a file that was set aside, the event is another one, and there is no asset: what starts on files that are
    archived must not take it. When a person accepts it, this is called again, with the file at its usual place.
    Emitted twice of the same file, Prefect keeps one: the id of the event is made of what it says.
    """
    try:
        _emit_archived(facts, video, image, store)
    except Exception as error:  # what Prefect's assets are made of may change with its version
        get_run_logger().warning("It could not be told that %s is there (%s)", video.uri, type(error).__name__)


def _emit_archived(facts: GenerationFacts, video: ArchivedVideo, image: StagedImage | None, store: Store) -> None:
    labels = _labels(facts.generation_key, facts.request_id, facts.model_id)
    name = video.key.rpartition("/")[2]
    payload = {
        "uri": video.uri,
        "provenance_uri": video.provenance_uri,
        "poster_uri": video.poster_uri,
        "sha256": video.sha256,
        "size_bytes": video.size_bytes,
        "content_type": video.content_type,
        "duration_seconds": video.media.duration_seconds,
        "cost_usd": facts.cost_usd,
        "image_uri": image.uri if image else None,
        **({"verdict": video.quality.verdict, "reasons": list(video.quality.reasons)} if video.quality else {}),
        **({"accepted_by": video.review.by} if video.review else {}),
    }
    related = _generation(facts.generation_key)
    if image is not None:
        related.append({"prefect.resource.id": image.uri, "prefect.resource.role": "image"})
    once = f"{video.uri} {video.sha256}"
    resource = {"prefect.resource.id": video.uri, "prefect.resource.name": name, **labels}
    if video.set_aside:
        _send(SET_ASIDE, resource, related, payload, once=once)
        return
    _send(EVENTS[EntryState.ARCHIVED], resource, related, payload, once=once)
    picture = _asset(image.uri) if image is not None else None
    if picture is not None:
        _send(ASSET_READ, AssetContext.asset_as_resource(picture), [], {}, once=f"{once} {picture.key}")
    asset = _asset(
        video.uri, name=name, description=_described(facts, video), url=address(video.bucket, video.key, store)
    )
    if asset is not None:
        upstream = [AssetContext.asset_as_related(picture)] if picture else []
        made_by = AssetContext.related_materialized_by("runcomfy")
        _send(ASSET_MADE, AssetContext.asset_as_resource(asset), [*upstream, made_by], payload | labels, once=once)


def _labels(key: str | None, request_id: str | None, model_id: str | None) -> dict[str, str]:
    named = {"generation-key": key, "request-id": request_id, "model": model_id}
    return {f"runcomfy.{name}": value for name, value in named.items() if value}


def _generation(key: str | None) -> list[dict[str, str]]:
    if not key:
        return []
    return [{"prefect.resource.id": f"runcomfy.generation.{key}", "prefect.resource.role": "generation"}]


def _asset(key: str, **properties: str) -> Asset | None:
    """Return an asset, with what its page shows; Prefect takes no spaces and few other characters in the key of one."""
    try:
        return Asset(key=key, properties=AssetProperties(**properties) if properties else None)
    except ValidationError:
        return None


def _described(facts: GenerationFacts, video: ArchivedVideo) -> str:
    """Return a line on what it is; the prompt is in its provenance."""
    media = video.media
    size = f"{media.width} x {media.height}" if media.width and media.height else ""
    length = f"{media.duration_seconds:.1f} s" if media.duration_seconds is not None else ""
    return ", ".join(filter(None, (f"Made by {facts.model_id}, request {facts.request_id}", media.codec, size, length)))


def _send(
    event: str, resource: dict[str, str], related: list[dict[str, str]], payload: dict[str, Any], *, once: str | None
) -> None:
    event_id = uuid.uuid5(_NAMESPACE, f"{event} {once}") if once else None
    try:
        emit_event(event=event, resource=resource, related=related, payload=payload, id=event_id)
    except Exception as error:  # a note must never break what is paid for
        get_run_logger().warning("The event %s could not be sent (%s); the run goes on", event, type(error).__name__)
