"""What the flow run's page shows of a generation: its image, how it went, what it cost, and where its files are.

A page of Prefect cannot read a private bucket, and a signed URL must not get into its database; so a poster is embedded
in the page, as a small `data:` URL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any
from urllib.parse import quote

from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact

from runcomfy.media.poster import embedded_poster
from runcomfy.redaction import strip_query
from runcomfy.storage.commands import StoreOptions
from runcomfy.storage.store import Store
from runcomfy.texts import prompt_of
from runcomfy.values import ArchivedVideo, GenerationFacts
from tasks.pages.deciding import how_to_decide
from tasks.pages.markdown import code, facts_table, text

__all__ = ["address", "poster_image", "publish", "show"]

_MOST_POSTERS = 4
_LARGEST_POSTER_BYTES = 1_000_000
_LARGEST_EMBEDDED_BYTES = 10_000  # Prefect repeats it in two events
_LARGEST_SHEET_BYTES = 24_000
_QUALITIES = (75, 60, 45, 30, 15)


async def show(artifact: Coroutine[Any, Any, Any]) -> Any:
    """Create or update an artifact if Prefect's API takes it: showing a run must never break what is paid for."""
    try:
        return await artifact
    except Exception as error:
        get_run_logger().warning("An artifact could not be shown (%s); the run goes on", type(error).__name__)
        return None


async def publish(
    facts: GenerationFacts,
    videos: Sequence[ArchivedVideo],
    store: Store,
    options: StoreOptions,
    *,
    archiving_seconds: float | None,
) -> None:
    """Create the artifact of a generation; it holds no signed URL, so the links of a private bucket ask for a login.

    The image is in the description, because the card on the flow run's page shows that.

    Args:
        facts: What is known of it.
        videos: Its files.
        store: Where they are.
        options: The store and its journal, as commands name them.
        archiving_seconds: How long it took to archive them; `None` if that was done before.
    """
    await show(_page(facts, videos, store, options, archiving_seconds))


async def _page(
    facts: GenerationFacts,
    videos: Sequence[ArchivedVideo],
    store: Store,
    options: StoreOptions,
    archiving_seconds: float | None,
) -> None:
    shown = [
        (video, await _image(store, video) if number < _MOST_POSTERS else "") for number, video in enumerate(videos)
    ]
    image = shown[0][1] if shown else ""
    lines = [_prompt(facts)]
    if len(shown) == 1:
        lines += [how_to_decide(videos[0], options), _links(videos[0], store), _warnings(videos[0])]
        lines.append(facts_table([*_facts(facts, archiving_seconds, store), *_video(videos[0])]))
    else:
        lines.append(facts_table(_facts(facts, archiving_seconds, store)))
        for video, poster in shown:
            lines += [f"### Output {video.index}", poster, how_to_decide(video, options), _links(video, store)]
            lines.append(_warnings(video))
            lines.append(facts_table(_video(video)))
    before = "archived before this run" if archiving_seconds is None else ""
    aside = "set aside: a person has to decide" if any(video.set_aside for video in videos) else ""
    said = ", ".join(filter(None, (text(facts.model_id), _cost(facts), _took(facts), before, aside)))
    await acreate_markdown_artifact(
        "\n\n".join(filter(None, lines)),
        key="runcomfy-generation",
        description="\n\n".join(filter(None, (image, said))),
    )


def address(bucket: str, key: str, store: Store) -> str:
    """Return the page of an object for people with access: the AWS console, or the object at its server; not signed.

    Args:
        bucket: The object's bucket.
        key: Its full key.
        store: Whose server it is.
    """
    endpoint = store.public_endpoint_url
    if endpoint is None:
        return f"https://console.aws.amazon.com/s3/object/{bucket}?prefix={quote(key, safe='')}"
    return f"{strip_query(endpoint).rstrip('/')}/{bucket}/{quote(key)}"


def _name(video: ArchivedVideo) -> str:
    return video.key.rpartition("/")[2]


def _prompt(facts: GenerationFacts) -> str:
    prompt = prompt_of(facts.inputs)
    return f"**Prompt:** {text(prompt)}" if prompt else ""


def _cost(facts: GenerationFacts) -> str:
    return "" if facts.cost_usd is None else f"{facts.cost_usd:.4f}".rstrip("0").ljust(4, "0") + " USD"


def _took(facts: GenerationFacts) -> str:
    known = [seconds for seconds in (facts.queued_seconds, facts.running_seconds) if seconds is not None]
    return f"{sum(known):.0f} s" if known else ""


def _facts(facts: GenerationFacts, archiving_seconds: float | None, store: Store) -> list[tuple[str, str]]:
    image = facts.image
    return [
        ("Model", code(facts.model_id)),
        ("Seed", "" if facts.seed is None else str(facts.seed)),
        ("Cost", _cost(facts)),
        ("In the queue", _seconds(facts.queued_seconds)),
        ("Running", _seconds(facts.running_seconds)),
        ("Archiving", _seconds(archiving_seconds)),
        ("Submitted", "" if facts.submitted_at is None else f"{facts.submitted_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Picture", "" if image is None else f"[as staged]({address(image.bucket, image.key, store)})"),
        ("Request", code(facts.request_id)),
        ("Generation", code(facts.generation_key) if facts.generation_key else ""),
    ]


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"


def _links(video: ArchivedVideo, store: Store) -> str:
    watch = address(video.bucket, video.key, store)
    provenance = address(video.bucket, video.provenance_key, store)
    verb = {"audio": "Listen", "image": "See"}.get(video.content_type.partition("/")[0], "Watch")
    return f"**{verb}:** [{text(_name(video))}]({watch}) · [provenance]({provenance})"


def _video(video: ArchivedVideo) -> list[tuple[str, str]]:
    media = video.media
    return [
        ("Codec", " in ".join(text(part) for part in (media.codec, media.container) if part)),
        ("Size", f"{media.width} x {media.height}" if media.width and media.height else ""),
        ("Frames", _frames(video)),
        ("Verdict", text(video.quality.verdict.replace("_", " ")) if video.quality else ""),
        ("Length", _seconds(media.duration_seconds)),
        ("Bytes", f"{video.size_bytes:,}"),
        ("SHA-256", code(video.sha256)),
        ("URI", code(video.uri)),
    ]


def _frames(video: ArchivedVideo) -> str:
    media = video.media
    if media.frames is None:
        return ""
    return f"{media.frames}" + (f" at {media.frames_per_second:g} a second" if media.frames_per_second else "")


def _warnings(video: ArchivedVideo) -> str:
    reasons = video.quality.reasons if video.quality else ()
    verdict = video.quality.verdict.replace("_", " ").capitalize() if video.quality else ""
    return "\n".join(
        f"- **{text(verdict) if warning in reasons else 'Not as asked for'}:** {text(warning)}"
        for warning in video.warnings
    )


async def _image(store: Store, video: ArchivedVideo) -> str:
    """Return the contact sheet of a file, if it has one, else its poster."""
    name = text(_name(video))
    sheet = video.contact_sheet_key
    shown = await poster_image(store, sheet, name, pixels=640, largest_bytes=_LARGEST_SHEET_BYTES) if sheet else ""
    return shown or await poster_image(store, video.poster_key, name)


async def poster_image(
    store: Store, key: str | None, name: str, *, pixels: int = 320, largest_bytes: int = _LARGEST_EMBEDDED_BYTES
) -> str:
    """Return a poster as an image in Markdown, or nothing if there is none or it cannot be read.

    Args:
        store: Where it is.
        key: Its full key.
        name: What is shown where images are not; Markdown.
        pixels: Its longer side.
        largest_bytes: How large it may be in the page, before base64 adds a third.
    """
    if key is None:
        return ""
    try:
        poster = await asyncio.to_thread(store.read, key, limit_bytes=_LARGEST_POSTER_BYTES)
        url = await asyncio.to_thread(
            embedded_poster, poster, pixels=pixels, qualities=_QUALITIES, largest_bytes=largest_bytes
        )
    except Exception:  # showing a run must never break what is paid for, and a page reads well without it
        return ""
    return f"![{name}]({url})" if url else ""
