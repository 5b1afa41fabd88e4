"""What a command says: a table for a person, one JSON object for a script, and the exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console

from runcomfy import errors
from runcomfy.storage.commands import StoreOptions, shell_command
from runcomfy.values import ArchivedVideo, Generation

__all__ = [
    "EXIT_CODES",
    "INTERRUPTED",
    "STOPPED",
    "UNEXPECTED",
    "exit_code",
    "json_text",
    "print_facts",
    "print_generation",
    "print_videos",
]

UNEXPECTED = 1
INTERRUPTED = 130
STOPPED = 143

# The first class that an error belongs to decides, so a narrower one comes before its parent.
EXIT_CODES: tuple[tuple[type[errors.RunComfyError], int, str], ...] = (
    (errors.InvalidInput, 2, "the input is wrong; nothing was paid for"),
    (
        errors.ConfigurationError,
        3,
        "a setting is missing or wrong: nothing was paid for; or a batch has reached its budget",
    ),
    (errors.AuthenticationError, 4, "the RunComfy token or account was refused"),
    (errors.InsufficientBalance, 5, "the RunComfy account has no balance"),
    (errors.QueueTimeout, 7, "still queued at the deadline, and cancelled"),
    (errors.WaitError, 6, "not finished in time: it may be running and billed; `fetch` it later"),
    (errors.GenerationError, 8, "the request ended without a video"),
    (errors.UncertainSubmission, 9, "perhaps accepted, perhaps billed: look before you run it again"),
    (errors.RequestNotFound, 10, "the request is unknown, expired, or another account's"),
    (errors.SubmissionNotSent, 11, "the service refused, or could not be reached"),
    (errors.ServiceError, 11, "the service refused, or could not be reached"),
    (errors.StorageError, 12, "the bucket refused or could not be reached"),
    (errors.CommonCause, 14, "some rows of a batch have no video"),
    (errors.BatchIncomplete, 14, "some rows of a batch have no video"),
    (errors.VerificationFailed, 15, "`verify` found what is not as it was archived"),
    (
        errors.DefectiveOutput,
        16,
        "archived, and judged suspect or damaged (`on_defect` is `fail`), or rejected by a person",
    ),
    (errors.ArchiveError, 13, "made, but not archived: `fetch` it again"),
)


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error."""
    return next((code for kind, code, _ in EXIT_CODES if isinstance(error, kind)), UNEXPECTED)


def json_text(described: Any) -> str:
    """Return JSON in one line; in ASCII only, if stdout is not UTF-8."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "")
    return json.dumps(described, default=str, ensure_ascii=encoding != "utf8")


def print_facts(title: str, facts: dict[str, Any], *, as_json: bool, to_stderr: bool = False) -> None:
    """Print named facts to stdout; a fact that is `None` is left out of the table, and is `null` in the JSON.

    Args:
        title: What they are about.
        facts: The facts.
        as_json: Whether it is one JSON object.
        to_stderr: Whether a table is printed to stderr, because something is asked there.
    """
    if as_json:
        print(json_text(facts))
        return
    # Plain lines and no table: one would cut a URI to the width of the terminal, or of no terminal at all.
    console = Console(soft_wrap=True, highlight=False, stderr=to_stderr)
    console.print(title, style="bold", markup=False)
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        if value is not None:
            shown = str(value).replace("\n", "\n" + " " * (width + 4))
            console.print(f"  {name.replace('_', ' '):<{width}}  {shown}", markup=False)


def print_generation(generation: Generation, *, store: StoreOptions, as_json: bool) -> None:
    """Print what a flow made, and what is known of how it went; see `print_videos`."""
    submission, result = generation.submission, generation.result
    facts = {
        "request_id": submission.request_id,
        "generation": submission.generation_key,
        "submitted_at": submission.submitted_at.isoformat(),
        "queued_seconds": result.queued_seconds,
        "running_seconds": result.running_seconds,
        "cost_usd": result.cost_usd,
    }
    print_videos(facts, generation.videos, store=store, as_json=as_json)


def print_videos(facts: dict[str, Any], videos: Iterable[ArchivedVideo], *, store: StoreOptions, as_json: bool) -> None:
    """Print facts, and the archived files with them; of one that was set aside, how a person decides about it.

    Args:
        facts: What is known besides.
        videos: The files.
        store: Where they are, as other commands name it.
        as_json: Whether it is one JSON object.
    """
    if as_json:
        described = [video.model_dump(mode="json") | {"uri": video.uri} for video in videos]
        print_facts("", facts | {"videos": described}, as_json=True)
        return
    print_facts("Done", facts, as_json=False)
    for video in videos:
        shown = {
            video.media.noun: video.uri,
            "provenance": video.provenance_uri,
            "size": ", ".join(filter(None, (video.media.extent, f"{video.size_bytes:,} bytes"))),
            "sha256": video.sha256,
            "warnings": "\n".join(video.warnings) or None,
            "set aside": "\n".join(_decision(video, store)) or None,
        }
        print_facts(f"Output {video.index}", shown, as_json=False)


def _decision(video: ArchivedVideo, store: StoreOptions) -> Iterator[str]:
    if not video.set_aside or video.review is not None:
        return
    verdict = video.quality.verdict if video.quality is not None else "suspect"
    yield f"It was judged {verdict}, and is below quarantine/ until a person decides:"
    for word in ("accept", "reject"):
        yield f"`{shell_command('review', word, video.uri, *store.for_journal)}`"
