"""What is read from a message: arrivals, nothing, or a refusal; never a guess."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcomfy.errors import InvalidInput
from runcomfy.inbox.notices import Arrival, read_notice


def record(key: str = "in/photo.jpg", name: str = "ObjectCreated:Put", **facts: str) -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": name,
        "s3": {"bucket": {"name": "images"}, "object": {"key": key, "size": 7, **facts}},
    }


def event(*records: dict[str, Any]) -> str:
    return json.dumps({"Records": list(records)})


def sns(body: str) -> str:
    return json.dumps({"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:a:1:t", "Message": body})


def test_an_event_reports_every_object_that_was_created() -> None:
    """All its records count, with etag, version and sequencer where they are given."""
    body = event(
        record("a.jpg", eTag="e1", versionId="v1", sequencer="0055"),
        record("b.jpg", "ObjectCreated:CompleteMultipartUpload"),
    )

    assert read_notice(body) == (
        Arrival(bucket="images", key="a.jpg", etag="e1", version_id="v1", sequencer="0055"),
        Arrival(bucket="images", key="b.jpg"),
    )


@pytest.mark.parametrize(
    ("encoded", "key"),
    [
        ("my+photo.jpg", "my photo.jpg"),
        ("a%2Bb.jpg", "a+b.jpg"),
        ("in%2Fgr%C3%BC%C3%9Fe+%26+co%3D1.jpg", "in/grüße & co=1.jpg"),
        ("100%25.jpg", "100%.jpg"),
        ("%F0%9F%8E%AC.png", "🎬.png"),
    ],
)
def test_keys_are_form_encoded(encoded: str, key: str) -> None:
    """A blank is a plus, and a plus is %2B."""
    (arrival,) = read_notice(event(record(encoded)))

    assert arrival.key == key


@pytest.mark.parametrize("name", ["ObjectRemoved:Delete", "ObjectTagging:Put", "s3:ObjectRestore:Completed"])
def test_other_events_report_no_arrival(name: str) -> None:
    """They may come where the subscription is to all events."""
    assert read_notice(event(record(name=name))) == ()


def test_the_test_event_reports_no_arrival() -> None:
    """S3 sends it when notifications are set up."""
    assert read_notice(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "images"})) == ()


def test_minio_names_its_events_with_a_prefix() -> None:
    """They are read as well."""
    body = json.dumps(
        {
            "EventName": "s3:ObjectCreated:Put",
            "Key": "images/a.jpg",
            "Records": [record("a.jpg", "s3:ObjectCreated:Put")],
        }
    )

    assert [arrival.key for arrival in read_notice(body)] == ["a.jpg"]


def test_an_event_in_sns_is_unwrapped() -> None:
    """Also the test event."""
    assert [arrival.key for arrival in read_notice(sns(event(record("a+b.jpg"))))] == ["a b.jpg"]
    assert read_notice(sns(json.dumps({"Event": "s3:TestEvent"}))) == ()


def test_the_form_of_eventbridge_is_read() -> None:
    """It encodes no keys; another event than a creation reports no arrival."""
    detail = {
        "bucket": {"name": "images"},
        "object": {"key": "a+b c.jpg", "etag": "e", "version-id": "v", "sequencer": "1"},
    }
    created = {"version": "0", "source": "aws.s3", "detail-type": "Object Created", "detail": detail}

    assert read_notice(json.dumps(created)) == (
        Arrival(bucket="images", key="a+b c.jpg", etag="e", version_id="v", sequencer="1"),
    )
    assert read_notice(sns(json.dumps(created)))[0].key == "a+b c.jpg"
    assert read_notice(json.dumps(created | {"detail-type": "Object Deleted"})) == ()


def odd(bucket: Any, key: Any) -> str:
    return event(record() | {"s3": {"bucket": {"name": bucket}, "object": {"key": key}}})


@pytest.mark.parametrize(
    "body",
    [
        "", "hello", "null", "[]", "7", '"text"', "{}", "[" * 100_000,
        '{"Records": null}', '{"Records": [null]}', '{"Records": [{}]}', '{"Records": {"eventName": 1}}',
        '{"TopicArn": "t", "Message": "hello"}', '{"TopicArn": "t", "Message": null}',
        '{"source": "aws.s3", "detail-type": "Object Created"}', '{"source": "aws.ec2", "detail-type": "Any"}',
        event(record("%FF.jpg")), odd(7, "a"), odd("b", 7), odd("b", None),
    ],
)  # fmt: skip
def test_anything_else_is_refused(body: str) -> None:
    """With one kind of error, however odd the message is."""
    with pytest.raises(InvalidInput, match="The message"):
        read_notice(body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["Records", "eventName", "s3", "bucket", "object", "name", "key", "detail", "Message", "TopicArn"]
                ),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_no_message_breaks_the_parser(value: Any) -> None:
    """It is read, or refused."""
    with contextlib.suppress(InvalidInput):
        read_notice(json.dumps(value))
