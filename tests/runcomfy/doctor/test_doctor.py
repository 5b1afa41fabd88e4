"""Set-ups with one real thing broken: it is named, and nothing else is called broken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.credentials import RefreshableCredentials

from runcomfy.api.client import RunComfyClient
from runcomfy.doctor import Check, CheckResult, Diagnosis, Mark, ServerClock, clock_check, run_checks
from runcomfy.doctor.bucket import BucketUnderTest, bucket_checks
from runcomfy.doctor.running import in_thread
from runcomfy.doctor.service import AccountUnderTest, service_checks
from runcomfy.doctor.signing import reachable_from_outside, signed_for
from runcomfy.download.hosts import HostPolicy
from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store
from tests.crash.proxy import Proxy, proxies
from tests.crash.wire import Answer, Drop, Point, Wire
from tests.runcomfy.conftest import RawServer

NOWHERE = "127.0.0.1:9"
HOUR = timedelta(hours=1)
RIGHTS = {"list", "write", "read", "multipart", "delete"}
OF_WRITING = {"read", "multipart", "journal", "signed URL", "delete"}


@dataclass(frozen=True)
class SetUp:
    """Everything that a user has set."""

    base_url: str
    token: str
    hosts: tuple[str, ...]
    session: Callable[[], boto3.Session]
    endpoint_url: str
    prefix: str
    bucket: str = "videos"
    journal: str = "bucket"
    store: dict[str, Any] = field(default_factory=dict)
    is_sandbox: bool = True
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def but(self, **changed: Any) -> SetUp:
        return replace(self, **changed)

    def check(self) -> Report:
        async def account() -> AccountUnderTest:
            return AccountUnderTest(
                lambda: RunComfyClient(self.token, base_url=self.base_url), HostPolicy(self.hosts), "a test"
            )

        async def bucket() -> BucketUnderTest:
            return BucketUnderTest(self.open_store, self.journal, True, "a test")

        clock = ServerClock(self.now)
        checks = [
            *service_checks(account, clock),
            *bucket_checks(bucket, clock, lifetime=timedelta(hours=2), is_sandbox=lambda: self.is_sandbox),
            clock_check(clock, after=("service", "bucket")),
        ]
        return Report(asyncio.run(run_checks(checks)))

    def open_store(self) -> Store:
        return Store(self.bucket, self.prefix, session=self.session(), endpoint_url=self.endpoint_url, **self.store)


@dataclass(frozen=True)
class Report:
    findings: list[CheckResult]

    def marked(self, mark: Mark) -> set[str]:
        return {finding.name for finding in self.findings if finding.mark is mark}

    @property
    def broken(self) -> set[str]:
        return self.marked(Mark.BROKEN)

    @property
    def warnings(self) -> set[str]:
        return self.marked(Mark.WARNING)

    @property
    def unchecked(self) -> set[str]:
        return self.marked(Mark.NOT_CHECKED)

    def found(self, name: str) -> str:
        (finding,) = [finding for finding in self.findings if finding.name == name]
        if finding.mark in (Mark.BROKEN, Mark.WARNING):
            assert finding.verdict.advice, name
        return finding.verdict.found


@pytest.fixture
def healthy(sandbox: Sandbox, object_store: ObjectStore, prefix: str) -> SetUp:
    return SetUp(sandbox.url, sandbox.token, (sandbox.host,), object_store.session, object_store.endpoint_url, prefix)


@contextmanager
def store_that(setup: SetUp, hook: Callable[[Point], Drop | Answer | None]) -> Iterator[SetUp]:
    """Put a proxy before the store that answers some calls itself."""

    def name(method: str, target: str, headers: Any) -> str:
        if method == "GET" and "list-type" in target:
            return "LIST"
        return f"{method} {'if' if {'if-match', 'if-none-match'} & set(headers) else 'plain'}"

    proxy = Proxy(setup.endpoint_url, name)
    with proxies(proxy):
        proxy.wire = Wire(hook)
        yield setup.but(endpoint_url=proxy.url)


def refusing(*names: str, status: int = 403, code: str = "AccessDenied") -> Callable[[Point], Answer | None]:
    body = f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
    return lambda point: Answer(status, body) if point.moment == "before" and point.name in names else None


def test_a_healthy_set_up_passes(healthy: SetUp) -> None:
    """Every line is ok."""
    report = healthy.check()

    assert report.marked(Mark.OK) == {finding.name for finding in report.findings}, report


def test_nothing_is_left_behind_and_nothing_is_paid_for(healthy: SetUp, sandbox: Sandbox) -> None:
    """No object, no unfinished upload, no submission."""
    healthy.check()

    client = healthy.open_store().client
    assert "Contents" not in client.list_objects_v2(Bucket="videos", Prefix=healthy.prefix)
    assert "Uploads" not in client.list_multipart_uploads(Bucket="videos", Prefix=healthy.prefix)
    assert sandbox.books().submissions_received == 0


def test_a_wrong_token_is_the_tokens_fault(healthy: SetUp) -> None:
    """The service answers; the balance cannot be asked for."""
    report = healthy.but(token="not-the-token-77").check()

    assert (report.broken, report.unchecked) == ({"token"}, {"balance"})
    assert "not-the-token-77" not in repr(report)


def test_an_empty_account_is_named(healthy: SetUp) -> None:
    """A balance of zero pays for nothing."""
    with Sandbox(SandboxSettings(opening_balance_usd=0)) as poor:
        report = healthy.but(base_url=poor.url, token=poor.token, hosts=(poor.host,)).check()

    assert (report.broken, report.unchecked) == ({"balance"}, set())
    assert report.found("balance") == "0.00 USD"


def test_an_unknown_balance_is_only_a_warning(healthy: SetUp, sandbox: Sandbox) -> None:
    """Another endpoint than that of generations answers it."""
    sandbox.inject("http_503", endpoint="balance")

    report = healthy.check()

    assert (report.broken, report.warnings) == (set(), {"balance"})


@pytest.mark.parametrize(
    ("base_url", "words"),
    [
        ("https://service.invalid", "not known (DNS)"),
        (f"http://{NOWHERE}", "Nothing listens"),
        ("https://{sandbox}", "does not speak TLS"),
    ],
)
def test_a_service_that_cannot_be_reached_is_named_with_its_cause(
    healthy: SetUp, sandbox: Sandbox, base_url: str, words: str
) -> None:
    """Name, port or TLS; the bucket is checked all the same."""
    url = base_url.format(sandbox=sandbox.host)

    report = healthy.but(base_url=url, hosts=(sandbox.host, "service.invalid", NOWHERE)).check()

    assert (report.broken, report.unchecked) == ({"service"}, {"token", "balance"})
    assert words in report.found("service")


def test_a_service_that_fails_is_not_the_tokens_fault(healthy: SetUp, sandbox: Sandbox) -> None:
    """A 503 says nothing of the token."""
    sandbox.inject("http_503", endpoint="status")

    report = healthy.check()

    assert (report.broken, report.unchecked) == ({"service"}, {"token", "balance"})
    assert "503" in report.found("service")


class Everywhere(dict[str, bytes]):
    """One answer for every path."""

    def __init__(self, page: bytes) -> None:
        self.page = page

    def get(self, key: str, default: Any = None) -> Any:
        return self.page


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found"])
def test_another_web_server_is_not_taken_for_runcomfy(
    healthy: SetUp, raw_server: RawServer, answer: Any, status: str
) -> None:
    """A page, or a 404 without RunComfy's code, is no proof of a token."""
    raw_server.answers = Everywhere(answer(b"<html>Welcome</html>", status))
    host = f"127.0.0.1:{raw_server.port}"

    report = healthy.but(base_url=f"http://{host}", hosts=(host,)).check()

    assert (report.broken, report.unchecked) == ({"service"}, {"token", "balance"})
    assert "not as RunComfy does" in report.found("service")


def test_a_sandbox_whose_files_may_not_be_fetched_is_found_before_it_is_paid(healthy: SetUp) -> None:
    """Its files come from its own address."""
    report = healthy.but(hosts=("*.runcomfy.net",)).check()

    assert (report.broken, report.unchecked) == ({"output hosts"}, set())


@pytest.mark.parametrize(
    ("bucket", "keys", "code"),
    [
        ("no-such-bucket-here", {}, "NoSuchBucket"),
        ("videos", {"aws_secret_access_key": "wrong"}, "SignatureDoesNotMatch"),
        ("videos", {"aws_access_key_id": "AKIAUNKNOWN"}, "InvalidAccessKeyId"),
    ],
)
def test_a_bucket_that_refuses_is_named_with_its_cause(
    healthy: SetUp, object_store: ObjectStore, bucket: str, keys: dict[str, str], code: str
) -> None:
    """No such bucket, a wrong secret, an unknown key: what depends on it is not checked."""
    given: Any = {
        "aws_access_key_id": object_store.access_key,
        "aws_secret_access_key": object_store.secret_key,
        **keys,
    }

    report = healthy.but(bucket=bucket, session=lambda: boto3.Session(**given, region_name="us-east-1")).check()

    assert (report.broken, report.unchecked) == ({"bucket"}, RIGHTS | OF_WRITING | {"signed for", "lifecycle"})
    assert code in report.found("bucket")


def test_a_store_where_nothing_listens_is_named(healthy: SetUp) -> None:
    """The service is checked all the same."""
    report = healthy.but(endpoint_url=f"http://{NOWHERE}").check()

    assert (report.broken, report.unchecked) == ({"bucket"}, RIGHTS | OF_WRITING | {"signed for", "lifecycle"})
    assert "Nothing listens" in report.found("bucket")


def test_a_key_that_may_only_read_lacks_one_right(healthy: SetUp) -> None:
    """Writing is broken; what needs something written is not checked."""
    with store_that(healthy, refusing("PUT plain", "PUT if", "POST plain")) as setup:
        report = setup.check()

    assert (report.broken, report.unchecked) == ({"write"}, OF_WRITING)
    assert "AccessDenied" in report.found("write")


def test_a_key_that_may_not_list_lacks_one_right(healthy: SetUp) -> None:
    """Everything else works, and is called so."""
    with store_that(healthy, refusing("LIST")) as setup:
        report = setup.check()

    assert (report.broken, report.unchecked) == ({"list"}, set())


def test_a_key_that_may_not_delete_is_warned_of_and_what_stays_is_named(healthy: SetUp) -> None:
    """Nothing but tidying up needs it."""
    with store_that(healthy, refusing("DELETE plain")) as setup:
        report = setup.check()

    assert (report.broken, report.warnings) == (set(), {"multipart", "delete"})
    left = healthy.open_store().client.list_objects_v2(Bucket="videos", Prefix=healthy.prefix)["Contents"]
    assert all(entry["Key"] in report.found("delete") for entry in left)


class Unconditional(Answer):
    """The answer of a store to a write that it accepted."""

    def to_bytes(self) -> bytes:
        return b'HTTP/1.1 200 OK\r\nETag: "0"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'


@pytest.mark.parametrize("how", ["ignored", "refused"])
def test_conditional_writes_that_do_not_work_break_only_the_journal(healthy: SetUp, how: str) -> None:
    """The bucket itself works."""

    def ignore(point: Point) -> Answer | None:
        return Unconditional(200) if point.moment == "after" and point.name == "PUT if" else None

    hook = ignore if how == "ignored" else refusing("PUT if", status=501, code="NotImplemented")
    with store_that(healthy, hook) as setup:
        report = setup.check()

    assert (report.broken, report.unchecked) == ({"journal"}, set())
    assert "conditional writes" in report.found("journal")
    assert ".probe" not in report.found("journal")


def test_a_journal_that_is_nowhere_is_a_warning(healthy: SetUp) -> None:
    """It works, and a crash pays again."""
    report = healthy.but(journal="none").check()

    assert (report.broken, report.warnings) == (set(), {"journal"})


def test_a_journal_in_a_folder_is_broken(healthy: SetUp) -> None:
    """As blocks have it that older versions saved."""
    report = healthy.but(journal="/srv/journal").check()

    assert (report.broken, report.unchecked) == ({"journal"}, set())
    assert "folder" in report.found("journal")


def test_a_journal_in_another_bucket_is_probed_there_and_nothing_stays(healthy: SetUp) -> None:
    """Neither there nor here."""
    report = healthy.but(journal=f"s3://images/{healthy.prefix}").check()

    assert report.broken == report.warnings == set()
    assert report.found("journal").startswith(f"s3://images/{healthy.prefix}/journal;")
    assert "Contents" not in healthy.open_store().client.list_objects_v2(Bucket="images", Prefix=healthy.prefix)


def ending_session(object_store: ObjectStore, left: timedelta) -> boto3.Session:
    """Return a session with temporary credentials that end soon, and cannot be renewed for longer."""

    def issue() -> dict[str, Any]:
        ends = datetime.now(UTC) + left
        return {
            "access_key": object_store.access_key,
            "secret_key": object_store.secret_key,
            "token": None,
            "expiry_time": ends.isoformat(),
        }

    core: Any = botocore.session.get_session()
    core._credentials = RefreshableCredentials.create_from_metadata(issue(), issue, "test")
    return boto3.Session(botocore_session=core, region_name="us-east-1")


def test_credentials_that_end_before_the_deadlines_are_named(healthy: SetUp, object_store: ObjectStore) -> None:
    """An image's URL would expire with them."""
    report = healthy.but(session=lambda: ending_session(object_store, timedelta(minutes=40))).check()

    assert (report.broken, report.unchecked) == ({"signed for"}, set())
    assert "in 39 minutes" in report.found("signed for") and "2 hours" in report.found("signed for")


def test_an_address_that_the_service_cannot_reach_is_named(healthy: SetUp) -> None:
    """A store of this network serves everything but images."""
    report = healthy.but(is_sandbox=False).check()

    assert (report.broken, report.unchecked) == ({"public address"}, set())
    assert "127.0.0.1" in report.found("public address")


def test_a_public_address_that_is_something_else_is_named(healthy: SetUp, sandbox: Sandbox) -> None:
    """Signed URLs are fetched by it, and not found there."""
    report = healthy.but(store={"public_endpoint_url": sandbox.url}).check()

    assert (report.broken, report.unchecked) == ({"signed URL"}, set())
    assert "404" in report.found("signed URL")


def test_a_public_address_that_cannot_be_tried_from_here_is_a_warning(healthy: SetUp) -> None:
    """Many networks do not let their own machines in by their public address."""
    report = healthy.but(store={"public_endpoint_url": f"http://{NOWHERE}"}).check()

    assert (report.broken, report.warnings) == (set(), {"signed URL"})


@pytest.mark.parametrize(
    ("skew", "mark"),
    [
        (timedelta(seconds=20), Mark.OK),
        (timedelta(seconds=45), Mark.WARNING),
        (timedelta(minutes=-4), Mark.WARNING),
        (timedelta(minutes=6), Mark.BROKEN),
    ],
)
def test_a_clock_that_is_wrong_is_named(healthy: SetUp, skew: timedelta, mark: Mark) -> None:
    """From thirty seconds on it is a warning, from five minutes on it is broken; nothing else is."""
    report = healthy.but(now=lambda: datetime.now(UTC) + skew).check()

    assert {finding.name: finding.mark for finding in report.findings if finding.mark is not Mark.OK} == (
        {} if mark is Mark.OK else {"clock": mark}
    )


def test_the_clock_of_one_server_is_not_blamed_on_this_machine() -> None:
    """Where another server agrees with this machine, the odd one is named."""
    clock = ServerClock(lambda: datetime(2025, 1, 1, tzinfo=UTC))
    clock.record("right.example", "Wed, 01 Jan 2025 00:00:02 GMT")
    clock.record("odd.example", "Wed, 01 Jan 2025 00:10:00 GMT")

    verdict = clock.verdict()

    assert (verdict.mark, "odd.example" in verdict.advice) == (Mark.BROKEN, True)


def test_a_store_that_refuses_this_machines_time_points_at_the_clock(healthy: SetUp) -> None:
    """The line of the bucket points to that of the clock."""
    with store_that(healthy, refusing("LIST", code="RequestTimeTooSkewed")) as setup:
        report = setup.check()

    assert "time" in report.found("bucket")


async def _never() -> Diagnosis:
    await asyncio.sleep(60)
    raise AssertionError


async def _fails() -> Diagnosis:
    raise ValueError("token=abcdef123456")


async def test_a_check_that_hangs_is_given_up() -> None:
    """In its own time, and the others are not held up."""
    (finding,) = await run_checks([Check("A", "slow", _never, seconds=0.05)])

    assert (finding.mark, "No answer within" in finding.verdict.found) == (Mark.BROKEN, True)


async def test_a_check_that_fails_by_itself_says_so_without_quoting() -> None:
    """An unexpected exception may hold anything."""
    first, second = await run_checks([Check("A", "odd", _fails), Check("A", "next", _never, needs=("odd",))])

    assert first.mark is Mark.BROKEN and "abcdef123456" not in first.verdict.found
    assert (second.mark, second.verdict.found) == (Mark.NOT_CHECKED, "because of: odd")


def test_a_copied_session_token_is_a_warning() -> None:
    """It has an unknown end."""
    store = Store("bucket", session=boto3.Session("AKID", "s", "token", region_name="eu-west-1"))

    assert signed_for(store, timedelta(hours=2)).mark is Mark.WARNING


def test_a_region_that_is_not_set_is_found_before_an_image_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL that is signed for another region is refused."""
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "none")
    store = Store("bucket", session=boto3.Session("AKID", "s"))

    verdict = asyncio.run(run_checks([Check("A", "signed for", lambda: in_thread(lambda: signed_for(store, HOUR)))]))[0]

    assert (verdict.mark, "region" in verdict.verdict.advice) == (Mark.BROKEN, True)


def test_a_public_name_is_trusted_if_it_cannot_be_resolved() -> None:
    """A machine behind a proxy may know no names of the internet."""
    store = Store(
        "bucket",
        session=boto3.Session("AKID", "s", region_name="eu-west-1"),
        endpoint_url="http://10.0.0.7:9000",
        public_endpoint_url="https://store.invalid",
    )

    assert reachable_from_outside(store).mark is Mark.OK
