"""What the flow run's page shows of a generation: a table of facts, and a link to each file."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any
from urllib.parse import quote

from prefect import get_run_logger
from prefect.artifacts import acreate_link_artifact, acreate_table_artifact

from blocks import MediaStore
from runcomfy.archiving import ArchivedVideo
from runcomfy.provenance import GenerationFacts

__all__ = ["publish", "show"]


async def show(artifact: Coroutine[Any, Any, Any]) -> Any:
    """Create or update an artifact if Prefect's API takes it: a picture of a run must never break what is paid for."""
    try:
        return await artifact
    except Exception as error:
        get_run_logger().warning("An artifact could not be shown (%s); the run goes on", type(error).__name__)
        return None


async def publish(facts: GenerationFacts, videos: Sequence[ArchivedVideo], store: MediaStore) -> None:
    """Create the artifacts of a generation; they hold no signed URL, so a private bucket asks for a login."""
    rows = [
        {
            "video": video.uri,
            "codec": video.media.codec,
            "size": f"{video.media.width} x {video.media.height}",
            "frames": video.media.frames,
            "seconds": video.media.duration_seconds,
            "bytes": video.size_bytes,
            "sha256": video.sha256[:12],
            "warnings": " ".join(video.warnings),
        }
        for video in videos
    ]
    cost = "" if facts.cost_usd is None else f", {facts.cost_usd:.4f} USD"
    title = f"Request `{facts.request_id}` of `{facts.model_id}`{cost}"
    await show(acreate_table_artifact(rows, key="runcomfy-generation", description=title))
    for video in videos:
        name, provenance = video.key.rpartition("/")[2], video.provenance_key.rpartition("/")[2]
        beside = f"`{video.uri}`, provenance beside it in `{provenance}`"
        await show(acreate_link_artifact(_link(video, store), link_text=name, key="runcomfy-video", description=beside))


def _link(video: ArchivedVideo, store: MediaStore) -> str:
    """A page where somebody who may see the file sees it: the AWS console, or the object at its own server."""
    endpoint = store.public_endpoint_url or store.get_store().endpoint_url
    if endpoint is None:
        return f"https://console.aws.amazon.com/s3/object/{video.bucket}?prefix={quote(video.key, safe='')}"
    return f"{endpoint.rstrip('/')}/{video.bucket}/{quote(video.key)}"
