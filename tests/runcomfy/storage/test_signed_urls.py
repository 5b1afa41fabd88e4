"""Signed URLs are tried before anything is paid for, and for the region that the bucket is in."""

from __future__ import annotations

import logging
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest

from runcomfy.errors import ConfigurationError, StoreUnavailable, is_retryable
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage import signed_urls
from runcomfy.storage.signed_urls import check_signed_url
from runcomfy.storage.store import Store
from tests.runcomfy.certificate import server_context, write_certificate

HOUR = timedelta(hours=1)
SECRET = "s3cr3t-of-the-tests"
IMAGE = b"an image"


def error(code: str, **more: str) -> bytes:
    said = "".join(f"<{name}>{value}</{name}>" for name, value in more.items())
    return f"<?xml version='1.0'?><Error><Code>{code}</Code>{said}</Error>".encode()


@dataclass
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    closes: bool = False


@dataclass
class Imitation:
    """A server that speaks S3 as far as a HeadBucket and a GET by a signed URL, in one region."""

    region: str = "eu-west-1"
    head_refuses: int = 0
    """What a HeadBucket that is signed for another region is answered; 0 does not mind."""
    names_region: bool = True
    url: str = ""
    instead: Answer | None = None
    """What every GET is answered, if not the file."""
    heads: list[str] = field(default_factory=list)
    gets: list[str] = field(default_factory=list)
    """The region that each call was signed for."""

    def answer(self, method: str, target: str, authorization: str) -> Answer:
        named = {"x-amz-bucket-region": self.region} if self.names_region else {}
        if method == "HEAD":
            signed = re.findall(r"Credential=[^/]+/\d+/([\w-]+)/", authorization)[0]
            self.heads.append(signed)
            return Answer(self.head_refuses if self.head_refuses and signed != self.region else 200, headers=named)
        signed = parse_qs(urlsplit(target).query)["X-Amz-Credential"][0].split("/")[2]
        self.gets.append(signed)
        if self.instead is not None:
            return self.instead
        if signed != self.region:
            return Answer(400, error("AuthorizationQueryParametersError", **({"Region": self.region} if named else {})))
        return Answer(206, IMAGE[:1], {"Content-Range": f"bytes 0-0/{len(IMAGE)}"})


@contextmanager
def serving(imitation: Imitation, certificate: Path | None = None) -> Iterator[Imitation]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer = imitation.answer(self.command, self.path, self.headers.get("Authorization", ""))
            if answer.closes:
                self.close_connection = True
                return
            self.send_response_only(answer.status)
            self.send_header("Date", answer.headers.pop("Date", format_datetime(datetime.now(UTC), usegmt=True)))
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(answer.body)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate:
            server.socket = server_context(certificate).wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        imitation.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
        yield imitation
        server.shutdown()


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what was known of an address: a server of another test may have had the same port."""
    monkeypatch.setattr(signed_urls, "_addresses", defaultdict(signed_urls._Address))


@pytest.fixture
def imitation() -> Iterator[Imitation]:
    with serving(Imitation()) as imitation:
        yield imitation


def store_at(url: str, *, region: str = "us-east-1", **options: Any) -> Store:
    session = boto3.Session("AKIDOFTHETESTS", SECRET, region_name=region)
    return Store("pictures", "p", session=session, endpoint_url=url, **options)


def check(store: Store, **options: Any) -> str | None:
    given: dict[str, Any] = {"size_bytes": len(IMAGE), "lifetime": HOUR, "sleep": lambda _: None}
    return check_signed_url(store, store.key("images/a.png"), **given | options)


def signed_region(store: Store) -> str:
    return parse_qs(urlsplit(store.sign(store.key("a"), HOUR)).query)["X-Amz-Credential"][0].split("/")[2]


# ---- the region


@pytest.mark.parametrize("refuses", [0, 301, 400, 403])
def test_urls_are_signed_for_the_region_that_the_bucket_names(imitation: Imitation, refuses: int) -> None:
    """In its answer to a HeadBucket, also where that refuses; the settings named another one."""
    imitation.head_refuses = refuses
    store = store_at(imitation.url)

    store.check()

    assert check(store) is None
    assert (signed_region(store), imitation.gets) == ("eu-west-1", ["eu-west-1"])
    assert store.client.meta.region_name == ("eu-west-1" if refuses else "us-east-1")


@pytest.mark.parametrize("status", [301, 307, 400, 403])
def test_a_region_that_only_the_refusal_of_a_url_names_is_learnt(imitation: Imitation, status: int) -> None:
    """Its header or its body does; what serves is signed for from then on."""
    imitation.names_region = False
    store = store_at(imitation.url)
    wrong = Answer(status, error("PermanentRedirect"), {"x-amz-bucket-region": "eu-west-1"})
    answers = imitation.answer
    imitation.answer = lambda method, target, said: (  # type: ignore[method-assign]
        wrong if method == "GET" and "us-east-1" in target else answers(method, target, said)
    )

    assert check(store) is None
    assert signed_region(store) == "eu-west-1"


def test_a_region_that_the_bucket_names_but_refuses_is_dropped(imitation: Imitation) -> None:
    """Some servers name a place that no signature is for, and take that of the settings."""
    imitation.region = "us-east-1"
    answers = imitation.answer

    def answer(method: str, target: str, said: str) -> Answer:
        if method == "HEAD":
            return Answer(200, headers={"x-amz-bucket-region": "WEUR"})
        return answers(method, target, said)

    imitation.answer = answer  # type: ignore[method-assign]
    store = store_at(imitation.url)

    assert check(store) is None
    assert (imitation.gets, signed_region(store)) == (["WEUR", "us-east-1"], "us-east-1")


def test_an_unknown_region_is_refused_before_anything_is_paid_for(imitation: Imitation) -> None:
    """With what to set."""
    imitation.names_region = False

    with pytest.raises(ConfigurationError, match="than the one that is signed for") as caught:
        check(store_at(imitation.url))
    assert "nothing was paid for" in caught.value.message


def test_an_image_in_another_bucket_is_signed_for_that_ones_region(imitation: Imitation) -> None:
    """Where it was staged earlier, or by other settings."""
    store = store_at(imitation.url)

    assert check(store, bucket="elsewhere") is None
    url = store.sign("a", HOUR, bucket="elsewhere")
    assert "eu-west-1%2Fs3" in url and "/elsewhere/a?" in url


# ---- what refuses


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(403, error("AccessDenied")), "a policy of the bucket"),
        (Answer(403, error("AccessDenied", Message="Request has expired")), "clock"),
        (Answer(403, error("RequestTimeTooSkewed")), "clock"),
        (Answer(403, error("ExpiredPresignRequest")), "clock"),
        (Answer(403, error("ExpiredToken")), "temporary credentials have ended"),
        (Answer(403, error("InvalidAccessKeyId")), "does not know the access key"),
        (Answer(403, error("SignatureDoesNotMatch")), "secret key is wrong"),
        (Answer(404, error("NoSuchKey")), "does not have the file"),
        (Answer(404, error("NoSuchBucket")), "no such bucket"),
        (Answer(403, b"<html>Log in</html>"), "no S3 server"),
        (Answer(404), "no S3 server"),
        (Answer(418, error("TeaPot")), "418 TeaPot"),
        (Answer(302, headers={"Location": "https://login.example.com/?next=x"}), "redirects to login.example.com"),
        (Answer(200, b"<html>Log in</html>", {"Content-Type": "text/html; charset=utf-8"}), "a page in place"),
        (Answer(200, b"another file", {"Content-Type": "image/png"}), "12 bytes in place of 8"),
        (Answer(206, b"a", {"Content-Range": "bytes 0-0/9"}), "9 bytes in place of 8"),
        (Answer(204), "with nothing"),
    ],
    ids=lambda value: f"{value.status} {value.body[-40:]!r}" if isinstance(value, Answer) else "",
)
def test_an_answer_that_is_not_the_file_is_refused_and_its_kind_is_named(
    imitation: Imitation, answer: Answer, said: str
) -> None:
    """Each time it is asked, since it may have been changed; and without the URL, in all that can be printed."""
    imitation.instead = answer
    store = store_at(imitation.url)

    with pytest.raises(ConfigurationError, match=re.escape(said)) as caught:
        check(store)
    assert "nothing was paid for" in caught.value.message
    shown = f"{caught.value!r} {caught.value.facts} {caught.value.__context__!r} {caught.value.__cause__!r}"
    assert "X-Amz" not in shown and "AKID" not in shown

    imitation.instead = None
    assert check(store) is None


def test_a_clock_that_is_wrong_is_named_with_its_minutes(imitation: Imitation) -> None:
    """A refusal by a server that says what time it is."""
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=40), usegmt=True)
    imitation.instead = Answer(403, error("AccessDenied"), {"Date": date})

    with pytest.raises(ConfigurationError, match="40 minutes behind the store"):
        check(store_at(imitation.url))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_store_that_fails_is_asked_three_times_and_nothing_is_paid_for(imitation: Imitation, status: int) -> None:
    """It says nothing of the signature, and the run can be run again."""
    imitation.instead = Answer(status)
    pauses: list[float] = []

    with pytest.raises(StoreUnavailable, match="Nothing was paid for") as caught:
        check(store_at(imitation.url), sleep=pauses.append)
    assert is_retryable(caught.value)
    assert (len(imitation.gets), pauses) == (3, [1.0, 2.0])


def test_an_address_whose_certificate_is_not_accepted_is_refused(imitation: Imitation, tmp_path: Path) -> None:
    """The service would not accept it either; one that the store is configured to trust is read."""
    certificate = write_certificate(tmp_path / "certificate.pem")
    with serving(Imitation(), certificate) as public:
        with pytest.raises(ConfigurationError, match="The certificate of"):
            check(store_at(imitation.url, public_endpoint_url=public.url))
        assert check(store_at(imitation.url, public_endpoint_url=public.url, verify=str(certificate))) is None


# ---- what cannot be tried


@pytest.mark.parametrize("how", ["nothing listens", "no such name", "the door is closed"])
def test_an_address_that_cannot_be_tried_from_here_is_warned_of_once(
    imitation: Imitation, unused_tcp_port: int, how: str
) -> None:
    """The service may reach what this machine cannot. It is tried again after five minutes."""
    closed = Imitation(instead=Answer(0, closes=True))
    with serving(closed):
        public = {
            "nothing listens": f"http://127.0.0.1:{unused_tcp_port}",
            "no such name": "https://pictures.invalid",
            "the door is closed": closed.url,
        }[how]
        now = [0.0]

        def ask() -> str | None:
            return check(store_at(imitation.url, public_endpoint_url=public), clock=lambda: now[0])

        first = ask()
        assert first is not None and urlsplit(public).netloc in first and "paid for in vain" in first
        assert ask() is None
        before = len(closed.gets)
        now[0] = 301.0
        assert ask() is None
        assert len(closed.gets) == before + (how == "the door is closed")


# ---- once


def test_many_at_once_try_once(imitation: Imitation) -> None:
    """Each with a client of its own, as the flow runs of a process have; other credentials are tried by themselves."""
    stores = [store_at(imitation.url) for _ in range(4)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda number: check(stores[number % 4]), range(32))) == [None] * 32

    assert len(imitation.gets) == 1
    other = Store("pictures", "p", session=boto3.Session("ANOTHER", SECRET), endpoint_url=imitation.url)
    assert check(other) is None
    assert len(imitation.gets) == 2


# ---- real ones


@pytest.fixture
def put(store: Store) -> Callable[[], str]:
    def put() -> str:
        store.put(store.key("images/a.png"), IMAGE, content_type="image/png")
        return store.key("images/a.png")

    return put


def test_a_real_store_serves_and_refuses(
    store: Store, object_store: ObjectStore, put: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    """The size is compared, a missing file is named, wrong keys are; and no signature is in any log line."""
    key = put()
    wrong = Store(
        "videos", store.prefix, session=boto3.Session(object_store.access_key, "wrong", region_name="us-east-1"),
        endpoint_url=object_store.endpoint_url,
    )  # fmt: skip
    with caplog.at_level(logging.DEBUG):
        with pytest.raises(ConfigurationError, match="SignatureDoesNotMatch"):
            check_signed_url(wrong, key, lifetime=HOUR)
        with pytest.raises(ConfigurationError, match="8 bytes in place of 9"):
            check_signed_url(store, key, size_bytes=9, lifetime=HOUR)
        assert check_signed_url(store, key, size_bytes=8, lifetime=HOUR) is None
        with pytest.raises(ConfigurationError, match="does not have the file"):
            check_signed_url(store, store.key("none/b.png"), lifetime=HOUR)

    assert "X-Amz-Signature" not in caplog.text


def test_a_public_address_that_is_the_store_itself_serves(
    store: Store, object_store: ObjectStore, put: Callable[[], str]
) -> None:
    """Under another name than the private one, and the signature is for that name."""
    public = object_store.endpoint_url.replace("127.0.0.1", "localhost")
    key = put()
    both = Store(
        "videos", store.prefix, session=object_store.session(), endpoint_url=object_store.endpoint_url,
        public_endpoint_url=public,
    )  # fmt: skip

    assert check_signed_url(both, key, size_bytes=8, lifetime=HOUR) is None
    assert both.sign(key, HOUR).startswith(public)
