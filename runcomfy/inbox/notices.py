"""What a bucket says when an object arrives: S3's own event, also wrapped in SNS, and EventBridge's form of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

from pydantic import BaseModel, ConfigDict

from runcomfy.errors import InvalidInput

__all__ = ["Arrival", "read_notice"]

_WRAPPINGS = 3
_ADVICE = "Check what else writes to this queue."


class Arrival(BaseModel):
    """An object that was created, as its bucket reported; it may have changed or been deleted since."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    bucket: str
    key: str
    etag: str = ""
    version_id: str = ""
    sequencer: str = ""
    """Orders the events of one key: a longer one, or a greater one of the same length, is later."""


def read_notice(body: str) -> tuple[Arrival, ...]:
    """Return the arrivals that a message reports: none in S3's test event, and none in events of other kinds.

    Raises:
        InvalidInput: it is not an event of a bucket.
    """
    notice = _json_object(body)
    for _ in range(_WRAPPINGS):
        if "Message" not in notice or "TopicArn" not in notice:
            break
        notice = _json_object(notice["Message"])
    try:
        return tuple(_arrivals(notice))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise InvalidInput(f"The message looks like a bucket's event, but lacks a part of it. {_ADVICE}") from None


def _json_object(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise InvalidInput(f"The message is no JSON, so it is no event of a bucket. {_ADVICE}") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"The message is no JSON object, so it is no event of a bucket. {_ADVICE}")
    return found


def _arrivals(notice: dict[str, Any]) -> Iterator[Arrival]:
    if notice.get("Event") == "s3:TestEvent":
        return
    if "Records" in notice:
        for record in notice["Records"]:
            if str(record["eventName"]).removeprefix("s3:").startswith("ObjectCreated:"):
                found = record["s3"]["object"]
                yield Arrival(
                    bucket=record["s3"]["bucket"]["name"],
                    key=unquote_plus(found["key"], errors="strict"),  # form-encoded: a space is a plus
                    etag=found.get("eTag") or "",
                    version_id=found.get("versionId") or "",
                    sequencer=found.get("sequencer") or "",
                )
    elif notice.get("source") == "aws.s3" and "detail-type" in notice:
        if notice["detail-type"] == "Object Created":
            found = notice["detail"]["object"]
            yield Arrival(
                bucket=notice["detail"]["bucket"]["name"],
                key=found["key"],  # as it is: EventBridge does not encode it
                etag=found.get("etag") or "",
                version_id=found.get("version-id") or "",
                sequencer=found.get("sequencer") or "",
            )
    else:
        raise InvalidInput(
            f"The message is no event of a bucket: neither S3's, nor SNS's or EventBridge's form of one. {_ADVICE}"
        )
