"""What waits for a person: which generations go no further by themselves, and the command that decides each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runcomfy.catalogue.rows import Row
from runcomfy.commands import store_options, typed
from runcomfy.models import short_name

__all__ = ["Waiting", "waiting"]

_SHORT_KEY = 12


@dataclass(frozen=True)
class Waiting:
    """A generation, what has to be found out, and the commands to choose from, each with what it is for."""

    row: Row
    question: str
    commands: tuple[tuple[str, str], ...]


def waiting(rows: Iterable[Row], bucket_uri: str, journal: str) -> list[Waiting]:
    """Return what waits for a person: the most urgent first, which is what nobody collects by itself.

    Args:
        rows: Generations of the catalogue.
        bucket_uri: The store, `s3://bucket/prefix`, as commands name it.
        journal: Where the journal is kept, as commands name it.
    """
    where = store_options(bucket_uri, journal)
    found = [each for row in rows if row["generation_key"] and (each := _of(row, where))]
    return sorted(found, key=lambda each: ("uncertain", "expired", "detached").index(each.row["outcome"]))


def _of(row: Row, where: Sequence[str]) -> Waiting | None:
    key, request_id = str(row["generation_key"])[:_SHORT_KEY], row["request_id"] or "REQUEST_ID"
    adopt = ("It became a request: it is collected", typed("journal", "adopt", key, request_id, *where))
    release = ("It became nothing: a later run may submit, and pay", typed("journal", "release", key, *where))
    match row["outcome"]:
        case "uncertain":
            sent = f"{row['updated_at']:%Y-%m-%d %H:%M:%S} UTC"
            return Waiting(
                row, f"Is there a {row['model_id']} request of about {sent} in RunComfy's dashboard?", (adopt, release)
            )
        case "expired":
            question = "The service does not know its request any more. Is its video in RunComfy's dashboard?"
            return Waiting(row, question, (release,))
        case "detached":
            model = short_name(str(row["model_id"]))
            look = ("Where it is", typed("status", request_id))
            fetch = ("It is done: archive it", typed("fetch", request_id, "--model", model, *where))
            question = "It may be running, and be billed. The flow reconcile collects it; if it does not, ask."
            return Waiting(row, question, (look, fetch))
        case _:
            return None
