"""Messages that reach an inbox's queue, of buckets of all makes and of others: an example is one line.

With `words` it is refused in these; otherwise `arrivals` are the keys that it reports.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Any

__all__ = ["EXAMPLES", "Notice"]


@dataclass(frozen=True)
class Notice:
    """A message, and what is read from it."""

    name: str
    body: str
    arrivals: tuple[str, ...] = ()
    words: str = ""


RECORD: dict[str, Any] = {
    "eventName": "ObjectCreated:Put",
    "s3": {"bucket": {"name": "images"}, "object": {"key": "a+b%20c.jpg", "eTag": "e", "sequencer": "0A"}},
}
CREATED: dict[str, Any] = {
    "source": "aws.s3",
    "detail-type": "Object Created",
    "detail": {"bucket": {"name": "images"}, "object": {"key": "a b.jpg", "etag": "e", "version-id": "v"}},
}
EVENT = {"Records": [RECORD]}
KEY = "a b c.jpg"


def good(name: str, notice: Any, *arrivals: str) -> Notice:
    return Notice(name, notice if isinstance(notice, str) else json.dumps(notice), arrivals)


def bad(name: str, notice: Any, words: str) -> Notice:
    return Notice(name, notice if isinstance(notice, str) else json.dumps(notice), (), words)


def named(event: Any) -> dict[str, Any]:
    """S3's event under another name."""
    return {"Records": [RECORD | {"eventName": event}]}


def of(key: Any = "a", bucket: Any = "images", **facts: Any) -> dict[str, Any]:
    """S3's event of another object."""
    record = copy.deepcopy(RECORD)
    record["s3"] = {"bucket": {"name": bucket}, "object": {"key": key, **facts}}
    return {"Records": [record]}


def sns(message: Any, **facts: str) -> dict[str, Any]:
    return {"TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": message, **facts}


NO_EVENT, FORM, NO_JSON = "no event of a bucket: neither", "a part of it is not of the usual form", "no JSON"

EXAMPLES = (
    # events of S3, and of servers that write them
    good("put", EVENT, KEY),
    *(good(event, named(event), KEY) for event in (
        "ObjectCreated:Copy", "ObjectCreated:Post", "ObjectCreated:CompleteMultipartUpload", "s3:ObjectCreated:Put",
        "objectcreated:put")),
    *(good(event, named(event)) for event in (
        "ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated", "ObjectRestore:Completed", "ObjectTagging:Put",
        "LifecycleExpiration:Delete", "s3:ObjectAccessed:Get", "Replication:OperationReplicatedAfterThreshold")),
    good("test event", {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "images"}),
    good("several", {"Records": [RECORD, RECORD]}, KEY, KEY),
    good("created and removed", {"Records": [RECORD, named("ObjectRemoved:Delete")["Records"][0]]}, KEY),
    good("none", {"Records": []}),
    good("encoded key", of("a+b%2Bc%C3%A9.jpg"), "a b+c\xe9.jpg"),
    good("percent in a key", of("100%zz.jpg"), "100%zz.jpg"),
    good("folder", of("in/"), "in/"),
    good("versioned", of("a", versionId="v1"), "a"),
    good("MinIO", {"EventName": "s3:ObjectCreated:Put", "Key": "images/a", **named("s3:ObjectCreated:Put")}, KEY),
    good("Ceph", of("a b.jpg", etag="e", versionId="", metadata=[], tags=[]), "a b.jpg"),
    good("quoted tag", of("a", eTag='"e"'), "a"),
    good("byte-order mark", "\ufeff" + json.dumps(EVENT), KEY),
    # wrapped
    good("EventBridge", CREATED, "a b.jpg"),
    good("EventBridge, deleted", CREATED | {"detail-type": "Object Deleted"}),
    good("EventBridge, CloudTrail", CREATED | {"detail-type": "AWS API Call via CloudTrail"}),
    good("SNS", sns(json.dumps(EVENT), Type="Notification"), KEY),
    good("SNS, test event", sns('{"Event": "s3:TestEvent"}')),
    good("SNS of EventBridge", sns(json.dumps(CREATED)), "a b.jpg"),
    good("SNS, not as a text", sns(EVENT), KEY),
    good("SNS twice", sns(json.dumps(sns(json.dumps(EVENT)))), KEY),
    bad("SNS, to confirm", sns("You have chosen", Type="SubscriptionConfirmation"), "aws sns confirm-subscription"),
    bad("SNS, to confirm, with a command", sns("You have", Type="SubscriptionConfirmation") | {"TopicArn": "a; rm -rf ~"},
        "confirm-subscription --topic-arn TOPIC_ARN --token TOKEN"),
    bad("SNS, unsubscribed", sns("You have chosen", Type="UnsubscribeConfirmation"), "sends no more events"),
    bad("SNS, a text", sns("hello"), NO_JSON),
    bad("SNS, nothing", sns(None), NO_JSON),
    # other senders
    bad("R2", {"account": "a", "action": "PutObject", "bucket": "b", "object": {"key": "a"}}, NO_EVENT),
    bad("Google", {"kind": "storage#object", "name": "a.jpg", "bucket": "b"}, NO_EVENT),
    bad("Azure", [{"eventType": "Microsoft.Storage.BlobCreated", "subject": "/a"}], "no JSON object"),
    bad("Alibaba", {"events": [{"eventName": "ObjectCreated:PutObject", "oss": {}}]}, NO_EVENT),
    bad("Tencent", {"Records": [{"cos": {}, "event": {"eventName": "cos:ObjectCreated:Put"}}]}, NO_EVENT),
    bad("DynamoDB", {"Records": [{"eventName": "INSERT", "dynamodb": {}}]}, NO_EVENT),
    bad("Lambda's SNS", {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "{}"}}]}, NO_EVENT),
    bad("Lambda's SQS", {"Records": [{"eventSource": "aws:sqs", "body": "{}"}]}, NO_EVENT),
    bad("Lambda's failure", {"requestPayload": EVENT, "responsePayload": {}}, NO_EVENT),
    bad("EventBridge's detail alone", CREATED["detail"], NO_EVENT),
    bad("EventBridge, of another source", CREATED | {"source": "mine"}, NO_EVENT),
    bad("a list of EventBridge's", [CREATED], "no JSON object"),
    bad("CloudEvents", {"specversion": "1.0", "type": "com.amazonaws.s3", "data": RECORD}, NO_EVENT),
    bad("one record", RECORD, NO_EVENT),
    bad("small letters", {"records": [RECORD]}, NO_EVENT),
    # damaged
    bad("empty", "", NO_JSON),
    bad("text", "no JSON", NO_JSON),
    bad("XML", "<Event/>", NO_JSON),
    bad("base64", "eyJSZWNvcmRzIjpbXX0=", NO_JSON),
    bad("twice", json.dumps(EVENT) * 2, NO_JSON),
    bad("JSON in JSON", json.dumps(json.dumps(EVENT)), "no JSON object"),
    bad("nested", "[" * 2000, NO_JSON),
    bad("digits", '{"Records": ' + "9" * 5000 + "}", NO_JSON),
    bad("no object", "[]", "no JSON object"),
    bad("nothing in it", {}, NO_EVENT),
    bad("a number for records", {"Records": 1}, FORM),
    bad("an object for records", {"Records": {}}, FORM),
    bad("a text for a record", {"Records": ["a"]}, NO_EVENT),
    bad("an empty record", {"Records": [{}]}, NO_EVENT),
    bad("no object in it", {"Records": [RECORD, {"eventName": "ObjectCreated:Put", "s3": {}}]}, "it has no object"),
    bad("no key", of(None), "its key is not a text"),
    bad("empty key", of(""), "its key is empty"),
    bad("number as key", of(7), "its key is not a text"),
    bad("key that is not UTF-8", of("a%ff.jpg"), "its key is not UTF-8"),
    bad("half a character", of("\ud800"), "its key holds half a character"),
    bad("half a character in a tag", of("a", eTag="\ud800"), "its ETag holds half a character"),
    bad("empty bucket", of("a", ""), "its bucket's name is empty"),
    bad("number as sequencer", of("a", sequencer=7), "its sequencer is not a text"),
)  # fmt: skip
