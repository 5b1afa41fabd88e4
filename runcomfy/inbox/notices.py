"""What a bucket says when an object arrives: S3's own event, also wrapped in SNS, and EventBridge's form of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

from pydantic import BaseModel, ConfigDict, Field

from runcomfy.errors import InvalidInput

__all__ = ["Arrival", "read_notice"]

_WRAPPINGS = 3
_ADVICE = "Check what else writes to this queue."
_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]+:[A-Za-z0-9_.-]{1,256}")


class Arrival(BaseModel):
    """An object that was created, as its bucket reported; it may have changed or been deleted since."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    bucket: str = Field(min_length=1)
    key: str = Field(min_length=1)
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
        _check_subscription(notice)
        notice = _json_object(notice["Message"])
    try:
        return tuple(_arrivals(notice))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"The message looks like a bucket's event, but {_what_is_wrong(error)}. {_ADVICE}") from None


def _what_is_wrong(error: Exception) -> str:
    """Return which part is missing, or cannot be right, in words."""
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]}"
    if isinstance(error, _WrongPart):
        return str(error)
    return "its key is not UTF-8" if isinstance(error, UnicodeDecodeError) else "a part of it is not of the usual form"


class _WrongPart(ValueError):
    """A part of an event cannot be right; the text says which."""


def _check_subscription(notice: dict[str, Any]) -> None:
    """Name what a topic says of its subscriptions; the URL in it is not shown: whoever has it can confirm."""
    kind, topic = notice.get("Type"), str(notice["TopicArn"])
    topic = topic if _TOPIC.fullmatch(topic) else "TOPIC_ARN"  # anyone may send it, and it is in a command to paste
    if kind == "SubscriptionConfirmation":
        raise InvalidInput(
            f"The topic {topic} asks whether this queue is to be subscribed to it. Confirm it with the Token that is "
            f"in the message: aws sns confirm-subscription --topic-arn {topic} --token TOKEN"
        )
    if kind == "UnsubscribeConfirmation":
        raise InvalidInput(
            f"The topic {topic} says that this queue was unsubscribed: it sends no more events. Subscribe it again if "
            "events are to come from there."
        )


def _json_object(text: Any) -> dict[str, Any]:
    try:
        found = text if isinstance(text, dict) else json.loads(text.removeprefix("\ufeff"))
    except (AttributeError, TypeError, ValueError, RecursionError):
        raise InvalidInput(f"The message is no JSON, so it is no event of a bucket. {_ADVICE}") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"The message is no JSON object, so it is no event of a bucket. {_ADVICE}")
    return found


def _arrivals(notice: dict[str, Any]) -> Iterator[Arrival]:
    if notice.get("Event") == "s3:TestEvent":
        return
    if "Records" in notice:
        if not isinstance(notice["Records"], list):
            raise TypeError
        for record in notice["Records"]:
            if "s3" not in record:
                raise _no_event()
            if str(record["eventName"]).lower().removeprefix("s3:").startswith("objectcreated:"):
                found = record["s3"]["object"]
                key = found["key"]
                yield _arrival(
                    record["s3"]["bucket"]["name"],
                    unquote_plus(key, errors="strict") if isinstance(key, str) else key,  # form-encoded: + is a space
                    found.get("eTag") or found.get("etag"),  # servers that are not AWS differ
                    found.get("versionId"),
                    found.get("sequencer"),
                )
    elif notice.get("source") == "aws.s3" and "detail-type" in notice:
        if notice["detail-type"] == "Object Created":
            found = notice["detail"]["object"]
            yield _arrival(
                notice["detail"]["bucket"]["name"],
                found["key"],  # as it is: EventBridge does not encode it
                found.get("etag"),
                found.get("version-id"),
                found.get("sequencer"),
            )
    else:
        raise _no_event()


def _arrival(bucket: Any, key: Any, etag: Any, version_id: Any, sequencer: Any) -> Arrival:
    """Return the arrival; texts that no server can be asked for are wrong."""
    etag, version_id, sequencer = etag or "", version_id or "", sequencer or ""
    named = {"bucket's name": bucket, "key": key, "ETag": etag, "version": version_id, "sequencer": sequencer}
    for name, value in named.items():
        if not isinstance(value, str):
            raise _WrongPart(f"its {name} is not a text")
        if not value and name in ("bucket's name", "key"):
            raise _WrongPart(f"its {name} is empty")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _WrongPart(f"its {name} holds half a character") from None
    return Arrival(bucket=bucket, key=key, etag=etag.strip('"'), version_id=version_id, sequencer=sequencer)


def _no_event() -> InvalidInput:
    return InvalidInput(
        f"The message is no event of a bucket: neither S3's, nor SNS's or EventBridge's form of one. {_ADVICE}"
    )
