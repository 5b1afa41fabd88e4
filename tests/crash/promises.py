"""What is promised of a generation, whatever was killed or failed, judged by the service's ledger and the bucket."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av
from PIL import Image

from runcomfy.content_credentials import read_credentials
from runcomfy.models import TEXT_TO_VIDEO
from tests.crash.generation import BUCKET, Generation
from tests.crash.workers import Outcome

__all__ = ["Found", "Verdict", "judge", "look"]

_ENTRY = re.compile(r"journal/[0-9a-f]{64}\.json")
_STAGED = "images/"
_FOLDERS = (_STAGED, "journal/")
_FILES = (".mp4", ".png", ".mp3")
_LOST = "lost: "
_SLACK_SECONDS = 0.2  # an encoder fills its first and its last frame up


@dataclass(frozen=True)
class Found:
    """What exists of a generation."""

    requests: tuple[str, ...]
    """The ids of what was accepted, and so paid for."""
    objects: dict[str, bytes]
    """What stands in the bucket, by its key below the prefix."""
    uploads: int
    """Unfinished multipart uploads."""

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(body) for key, body in self.objects.items() if _ENTRY.fullmatch(key)]

    @property
    def state(self) -> str:
        """The state in the journal, or nothing."""
        return str(self.entries[0]["state"]) if self.entries else ""

    @property
    def left_over(self) -> int:
        """Unfinished uploads, and what a killed probe of the store's abilities leaves."""
        return self.uploads + sum("/.probe-" in key for key in self.objects)

    @property
    def videos(self) -> list[str]:
        return [key for key in self.objects if key.endswith(_FILES) and not key.startswith(_STAGED)]


def look(generation: Generation) -> Found:
    """Read the ledger and the bucket, past every proxy."""
    s3, prefix = generation.setting.s3, generation.prefix
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]
    return Found(
        requests=tuple(
            entry.id for entry in generation.setting.sandbox.books().requests if generation.id in entry.inputs["prompt"]
        ),
        objects={key.removeprefix(prefix): s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys},
        uploads=len(s3.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix).get("Uploads", [])),
    )


@dataclass(frozen=True)
class Verdict:
    """What became of a generation."""

    label: str
    kills: int
    found: Found
    uncertain: bool
    broken: tuple[str, ...]
    """Every promise that was not kept."""

    @property
    def lost(self) -> bool:
        """Whether there is neither a good video nor a report to a person."""
        return not self.uncertain and any(promise.startswith(_LOST) for promise in self.broken)


def judge(label: str, generation: Generation, left: Found, outcomes: Sequence[Outcome], honest: bool) -> Verdict:
    """Judge a generation by what the runs left and by what the undisturbed runs made of that.

    Args:
        label: Which one it is.
        generation: The generation.
        left: What existed before the undisturbed runs.
        outcomes: How the undisturbed runs ended; there is at least one.
        honest: Whether an uncertain end would be honest: an intent was left, and its answer cannot be known.
    """
    found = look(generation)
    uncertain = found.state == "uncertain" or outcomes[-1].error == "UncertainSubmission"
    broken = [*_paid_or_left(found, folder=f"{(generation.scenario.model or TEXT_TO_VIDEO).partition('/')[0]}/")]
    if uncertain:
        broken += _uncertain(found, left, outcomes, honest)
    else:
        # What is fetched by its id was not submitted by us: the journal knows nothing of it.
        broken += _archived(found, outcomes, state="" if generation.scenario.flow == "fetch" else "archived")
        if generation.scenario.signed:
            broken += [wrong for key in found.videos for wrong in _unsigned(found, key)]
    return Verdict(label, generation.kills, found, uncertain, tuple(broken))


def _paid_or_left(found: Found, folder: str) -> Iterator[str]:
    if len(found.requests) > 1:
        yield f"paid {len(found.requests)} times"
    if strays := [key for key in found.objects if not key.startswith((*_FOLDERS, folder))]:
        yield f"left over: {strays}"
    if len(found.entries) > 1:
        yield f"{len(found.entries)} journal entries"


def _uncertain(found: Found, left: Found, outcomes: Sequence[Outcome], honest: bool) -> Iterator[str]:
    if not honest:
        yield "uncertain without need"
    if found.state != "uncertain":
        yield f"said to be uncertain, but the journal says {found.state or 'nothing'}"
    if found.requests != left.requests:
        yield "uncertain, and submitted again"
    if wrong := [str(outcome) for outcome in outcomes if outcome.error != "UncertainSubmission"]:
        yield f"uncertain, but a run ended otherwise: {wrong[0]}"


def _archived(found: Found, outcomes: Sequence[Outcome], state: str) -> Iterator[str]:
    if found.state != state:
        yield f"the journal says {found.state or 'nothing'}"
    if wrong := [str(outcome) for outcome in outcomes if not outcome.videos]:
        yield f"a run failed: {wrong[0]}"
    if len(found.videos) != 1:
        yield f"{_LOST if not found.videos else ''}{len(found.videos)} videos"
    for key in found.videos:
        yield from _wrong_with(found, key)
    named = {str(video["key"]).partition("/")[2] for outcome in outcomes for video in outcome.videos}
    if named - set(found.videos):
        yield f"{_LOST}a run named what is not there: {sorted(named)}"
    if lone := [
        key
        for key in found.objects
        if key.endswith(tuple(f"{each}.json" for each in _FILES)) and key[:-5] not in found.videos
    ]:
        yield f"{_LOST}provenance without a video: {lone}"


def _unsigned(found: Found, key: str) -> Iterator[str]:
    """Let the library of C2PA read a signature, and hold it against the provenance beside it."""
    provenance = json.loads(found.objects.get(f"{key}.json", b"{}"))
    signed = read_credentials(io.BytesIO(found.objects[key]), provenance.get("content_type", "video/mp4"))
    if signed is None or not signed.is_valid:
        yield f"{_LOST}the signature of {key} does not hold: {signed and signed.problems}"
    elif provenance.get("signed_by") != signed.signer:
        yield f"the provenance of {key} says that {provenance.get('signed_by')} signed it, and {signed.signer} did"
    elif signed.statement is None or signed.statement.source_sha256 != provenance.get("source_sha256"):
        yield f"{key} was signed as another file than its provenance says"


def _wrong_with(found: Found, key: str) -> Iterator[str]:
    """Compare a video with its provenance, and decode it."""
    body = found.objects[key]
    if (document := found.objects.get(f"{key}.json")) is None:
        yield f"{_LOST}{key} has no provenance"
        return
    provenance = json.loads(document)
    if provenance["sha256"] != hashlib.sha256(body).hexdigest() or provenance["size_bytes"] != len(body):
        yield f"{_LOST}{key} is not what its provenance says"
    if provenance["request_id"] not in found.requests:
        yield f"{key} is of no request that was paid for"
    if key.endswith(".png"):
        with Image.open(io.BytesIO(body)) as image:
            image.load()
        return
    with av.open(io.BytesIO(body), "r") as container:
        if key.endswith(".mp3"):
            seconds = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
            if abs(seconds - provenance["media"]["duration_seconds"]) > _SLACK_SECONDS:
                yield f"{_LOST}{key} does not play to its end"
        elif len(list(container.decode(video=0))) != provenance["media"]["frames"]:
            yield f"{_LOST}{key} does not play to its end"
