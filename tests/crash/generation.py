"""One generation: the processes that want it, and how they are killed."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
from PIL import Image

from runcomfy.models import TEXT_TO_VIDEO
from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.garbage import collect_garbage
from runcomfy.storage.store import Store
from tests.crash.points import By, Scenario, Trigger
from tests.crash.proxy import Proxy
from tests.crash.wire import Drop, Hook, Wire
from tests.crash.workers import Outcome, Process, Starter
from tests.runcomfy.content_credentials.certificates import Chain

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["BUCKET", "Generation", "Lane", "Setting"]

BUCKET = "videos"


@dataclass
class Lane:
    """A way to the service and to the store. One generation uses it at a time, so its addresses stay the same."""

    api: Proxy
    s3: Proxy
    notes: dict[str, bytes] = field(default_factory=dict)
    """What is kept in the journal that is of no generation: the hidden objects there."""

    def record(self, hook: Hook | None) -> Wire:
        """Send the connections that are opened from now on through a hook, and record their points."""
        self.api.wire = self.s3.wire = Wire(hook) if hook else Wire()
        return self.api.wire

    def settle(self) -> None:
        """Wait until no call is in flight any more."""
        self.api.settle()
        self.s3.settle()


@dataclass(frozen=True)
class Setting:
    """What all generations share: the service, the store (and a client that reaches it past the proxies), processes."""

    sandbox: Sandbox
    store: ObjectStore
    s3: S3Client
    workers: Starter
    signer: Chain | None = None


@dataclass
class Generation:
    """One generation, identified by its prompt in the service's ledger and by its prefix in the bucket."""

    setting: Setting
    lane: Lane
    scenario: Scenario
    patience_seconds: int = 1
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    request_id: str = ""
    kills: int = 0

    @property
    def prompt(self) -> str:
        return f"A lighthouse, {self.id}{self.scenario.directive}"

    @property
    def prefix(self) -> str:
        return f"crash-{self.id}/"

    def prepare(self) -> None:
        """Bring about what has happened before the story begins."""
        if not self.scenario.new_bucket:
            for name, body in self.lane.notes.items():
                self.setting.s3.put_object(Bucket=BUCKET, Key=f"{self.prefix}journal/{name}", Body=body)
        if self.scenario.before == "requested":
            self.request_id = self._requested()
        elif self.scenario.before == "archived":
            outcome = self.run()
            assert outcome.videos, outcome

    def start(self, *, fresh: bool = False, by: By | None = None) -> Process:
        """Start a process for this generation, run by what its story says or by something else."""
        sandbox, store = self.setting.sandbox, self.setting.store
        job: dict[str, Any] = {
            "flow": self.scenario.flow,
            "by": by or self.scenario.by,
            "prompt": self.prompt,
            "image": self._picture() if self.scenario.flow == "image-to-video" else "",
            "request_id": self.request_id,
            "environment": self._signer if self.scenario.signed else {},
            "model_id": self.scenario.model or TEXT_TO_VIDEO,
            "account": {"token": sandbox.token, "host": self.lane.api.host},
            "store": {
                "bucket": BUCKET,
                "prefix": self.prefix,
                "access_key": store.access_key,
                "secret_key": store.secret_key,
                "endpoint_url": self.lane.s3.url,
                # The service fetches the image past the proxy. (Each endpoint costs a client more.)
                "public_endpoint_url": store.endpoint_url if self.scenario.flow == "image-to-video" else "",
                "patience_seconds": self.patience_seconds,
            },
        }
        return self.setting.workers.start(job, fresh=fresh)

    def run(self, hook: Hook | None = None, *, fresh: bool = False) -> Outcome:
        """Run it to its end."""
        self.lane.record(hook)
        return self._end([self.start(fresh=fresh)])[0]

    def run_killed(
        self,
        when: Trigger,
        *,
        processes: int = 1,
        victims: Sequence[int] = (0,),
        fresh: bool = False,
        pause_seconds: float = 0.0,
    ) -> list[Outcome]:
        """Run it in some processes at once, and kill some of them at a point of all their calls.

        Args:
            when: Makes the hook that acts at that point.
            processes: How many compete for it.
            victims: Which of them are killed. If all are, the call that was seen goes no further.
            fresh: Whether each is a fresh interpreter.
            pause_seconds: How long after that point they are killed; the calls go on in the meantime.
        """
        started: Future[list[Process]] = Future()

        def kill() -> Drop | None:
            if pause_seconds:
                threading.Timer(pause_seconds, kill_now).start()
                return None
            kill_now()
            return Drop() if len(victims) == processes else None

        def kill_now() -> None:
            for victim in victims:
                started.result()[victim].kill()

        self.lane.record(when(kill))
        started.set_result([self.start(fresh=fresh) for _ in range(processes)])
        return self._end(started.result())

    def run_together(self, processes: int, by: Sequence[By] = ("prefect",)) -> list[Outcome]:
        """Run it in some processes at once, to their ends; these run them in turn."""
        self.lane.record(None)
        return self._end([self.start(by=by[number % len(by)]) for number in range(processes)])

    def collect_garbage(self) -> None:
        """Remove what the reconcile flow removes: everything unfinished, however young it is."""
        store = self.setting.store
        collect_garbage(
            Store(BUCKET, self.prefix, session=store.session(), endpoint_url=store.endpoint_url),
            uploads_older_than=timedelta(0),
        )

    def _end(self, workers: Sequence[Process]) -> list[Outcome]:
        """Wait for the ends of processes, and until none of their calls is in flight any more."""
        outcomes = [worker.wait() for worker in workers]
        self.lane.settle()
        self.kills += sum(outcome.killed for outcome in outcomes)
        return outcomes

    @property
    def _signer(self) -> dict[str, str]:
        chain = self.setting.signer
        assert chain is not None
        return {
            "RUNCOMFY_SIGN_CERTIFICATE": str(chain.certificate), "RUNCOMFY_SIGN_KEY": str(chain.key),
            "RUNCOMFY_SIGN_REQUIRED": "yes",
        }  # fmt: skip

    def _picture(self) -> str:
        """Paint an image that no other generation has, and return its path."""
        path = self.setting.workers.directory / f"{self.id}.png"
        if not path.exists():
            Image.new("RGB", (64, 48), f"#{self.id[:6]}").save(path)
        return str(path)

    def _requested(self) -> str:
        """Make a request as another program would, and wait until it is done."""
        sandbox = self.setting.sandbox
        answer = httpx.post(
            f"{sandbox.url}/v1/models/{TEXT_TO_VIDEO}",
            json={"prompt": self.prompt},
            headers={"Authorization": f"Bearer {sandbox.token}"},
        )
        request_id = str(answer.raise_for_status().json()["request_id"])
        sandbox.wait_for_end(request_id)
        return request_id
