"""S3 whose buckets notify an SQS queue of new objects: moto's server, in a process of its own.

It checks no signature. Conditional writes, and deletions from a queue, are right there only one after the other (of two
deletions at once, one is lost), so those are made to wait for each other here.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from PIL import Image

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

__all__ = ["Cloud", "painted", "running_cloud"]

_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Cloud:
    """A running server."""

    endpoint_url: str
    access_key: str = "inbox-key"
    secret_key: str = "inbox-secret-5b1d"
    s3: S3Client = field(init=False)
    sqs: SQSClient = field(init=False)

    def __post_init__(self) -> None:
        config = Config(max_pool_connections=32)
        for name in ("s3", "sqs"):
            client = self.session().client(name, endpoint_url=self.endpoint_url, config=config)
            object.__setattr__(self, name, client)

    def session(self) -> boto3.Session:
        """Return a new session with the server's keys."""
        return boto3.Session(self.access_key, self.secret_key, region_name="us-east-1")

    def bucket(self) -> str:
        """Make a bucket."""
        name = f"bucket-{uuid.uuid4().hex}"
        self.s3.create_bucket(Bucket=name)
        return name

    def queue(self) -> str:
        """Make a queue, and return its URL."""
        return self.sqs.create_queue(QueueName=f"queue-{uuid.uuid4().hex}")["QueueUrl"]

    def notify(self, bucket: str, queue_url: str, prefix: str = "") -> None:
        """Let a bucket notify a queue of every new object below a prefix."""
        arn = f"arn:aws:sqs:us-east-1:123456789012:{queue_url.rpartition('/')[2]}"
        wanted: Any = {"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}
        if prefix:
            wanted["Filter"] = {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}}
        self.s3.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [wanted]}
        )

    def send(self, queue_url: str, bodies: Iterable[str]) -> None:
        """Put messages into a queue, in this order."""
        bodies = list(bodies)
        for start in range(0, len(bodies), 10):
            entries: Any = [
                {"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies[start : start + 10])
            ]
            self.sqs.send_message_batch(QueueUrl=queue_url, Entries=entries)

    def drain(self, queue_url: str) -> list[str]:
        """Remove every visible message from a queue."""
        bodies = []
        while found := self.sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10).get("Messages"):
            bodies += [message["Body"] for message in found]
            self.sqs.delete_message_batch(
                QueueUrl=queue_url,
                Entries=[{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(found)],
            )
        return bodies

    def count(self, queue_url: str) -> tuple[int, int]:
        """Return how many messages of a queue are visible, and how many are hidden."""
        names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
        visible, hidden = (int(found[name]) for name in names)
        return visible, hidden


def painted(number: int = 0) -> bytes:
    """Draw an image that differs for each number."""
    image = Image.new("RGB", (64, 48), (40, 90, 140))
    image.putpixel((1 + number % 60, 1 + number // 60 % 45), (250, number % 256, number // 256 % 256))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@contextlib.contextmanager
def running_cloud() -> Iterator[Cloud]:
    """Start a server on a free port, and stop it at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.runcomfy.inbox.cloud"],
        cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield Cloud(json.loads(process.stdout.readline())["url"])
    finally:
        process.kill()
        process.wait()


def _serve() -> None:
    """Serve until the input ends, which it does with the process that started this one."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from moto.sqs.models import Queue
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    delete = Queue.delete_message

    def delete_in_turn(queue: Queue, receipt_handle: str) -> None:
        with queue._messages_lock:
            delete(queue, receipt_handle)

    setattr(Queue, "delete_message", delete_in_turn)  # noqa: B010 - not ours, so its signature is of no interest
    app, turn = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def in_turn(environ: Any, start_response: Any) -> Any:
        conditional = "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MATCH" in environ
        with turn if conditional else contextlib.nullcontext():
            return app(environ, start_response)

    server = make_server("127.0.0.1", 0, in_turn, threaded=True)
    print(json.dumps({"url": f"http://127.0.0.1:{server.port}"}), flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    _serve()
