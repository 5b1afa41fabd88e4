from __future__ import annotations

import base64
import logging
import pickle
import socket
from collections.abc import Callable
from typing import Any

import pytest

from runcomfy.download.hosts import HostPolicy
from runcomfy.download.stream import open_url
from runcomfy.errors import DownloadError, HostNotAllowed

LOOPBACK = HostPolicy(("127.0.0.1",))
Answer = Callable[..., bytes]
QUERY = "?X-Amz-Signature=s3cr3t&X-Amz-Expires=60"


def all_text_of(error: BaseException | None) -> str:
    if error is None:
        return ""
    own = f"{error} {error!r} {error.args} {vars(error)}"
    return own + all_text_of(error.__cause__) + all_text_of(error.__context__)


def test_a_body_arrives_whole(raw_server: Any, answer: Answer) -> None:
    """The body, its type and its length arrive, and each read returns exactly what was asked for."""
    body = bytes(range(256)) * 4000
    raw_server.answers["/v.mp4"] = answer(body, headers="Content-Type: Video/MP4; codecs=x\r\n")

    with open_url(raw_server.url("/v.mp4"), LOOPBACK) as download:
        assert (download.content_type, download.length) == ("video/mp4", len(body))
        pieces = [download.read(300_000) for _ in range(5)]

    assert [len(piece) for piece in pieces] == [300_000, 300_000, 300_000, 124_000, 0]
    assert b"".join(pieces) == body


def test_a_body_without_length_is_read_to_its_end(raw_server: Any, answer: Answer) -> None:
    """Without Content-Length the end of the connection is the end of the body, and the length is not known."""
    raw_server.answers["/v"] = answer(b"video", length=None)

    with open_url(raw_server.url("/v"), LOOPBACK) as download:
        assert download.length is None
        assert download.read(100) == b"video"
        assert download.read(100) == b""


def test_a_chunked_body_is_joined(raw_server: Any, answer: Answer) -> None:
    """Chunks of the transport do not show."""
    chunked = b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
    raw_server.answers["/v"] = answer(chunked, length=None, headers="Transfer-Encoding: chunked\r\n")

    with open_url(raw_server.url("/v"), LOOPBACK) as download:
        assert [download.read(5), download.read(5), download.read(5)] == [b"abcde", b"fg", b""]


@pytest.mark.parametrize("kind", ["length", "chunked", "reset", "nothing", "nonsense"])
def test_a_cut_body_is_an_error(raw_server: Any, answer: Answer, kind: str) -> None:
    """A body that ends early, a reset, and an answer that is not HTTP are errors, never a short file."""
    raw_server.answers["/v"] = {
        "length": answer(b"x" * 1000, length=2000),
        "chunked": answer(b"ff\r\nabc", length=None, headers="Transfer-Encoding: chunked\r\n"),
        "reset": answer(b"x" * 1000, length=2000),
        "nothing": b"",
        "nonsense": b"SSH-2.0-OpenSSH\r\n\r\n",
    }[kind]
    if kind == "reset":
        raw_server.resets.add("/v")

    with pytest.raises(DownloadError) as failed, open_url(raw_server.url("/v" + QUERY), LOOPBACK) as download:
        while download.read(700):
            pass

    assert failed.value.retryable
    assert "s3cr3t" not in all_text_of(failed.value)


def test_silence_is_an_error(raw_server: Any) -> None:
    """A server that accepts and sends nothing is given up on after the read timeout."""
    raw_server.silent.add("/v")

    with (
        pytest.raises(DownloadError, match="no answer in time") as failed,
        open_url(raw_server.url("/v" + QUERY), LOOPBACK, read_timeout_seconds=0.1),
    ):
        pass

    assert "s3cr3t" not in all_text_of(failed.value)


def test_a_refused_connection_is_an_error(unused_tcp_port: int) -> None:
    """If no one listens, the error says so and does not show the signature."""
    with (
        pytest.raises(DownloadError, match="no connection") as failed,
        open_url(f"http://127.0.0.1:{unused_tcp_port}/v{QUERY}", LOOPBACK),
    ):
        pass

    assert "s3cr3t" not in all_text_of(failed.value)


@pytest.mark.parametrize(
    "status", ["403 Forbidden", "404 Not Found", "206 Partial Content", "204 No Content", "500 Oh"]
)
def test_anything_but_the_file_is_an_error(raw_server: Any, answer: Answer, status: str) -> None:
    """An error page is not a video, whatever its type; the status is a fact of the error."""
    raw_server.answers["/v"] = answer(b"<html>no</html>", status, headers="Content-Type: text/html\r\n")

    with pytest.raises(DownloadError) as failed, open_url(raw_server.url("/v" + QUERY), LOOPBACK):
        pass

    assert failed.value.http_status == int(status[:3])
    assert "s3cr3t" not in all_text_of(failed.value)
    assert str(pickle.loads(pickle.dumps(failed.value))) == str(failed.value)


@pytest.mark.parametrize(
    "status, headers", [("203 Changed", ""), ("206 Partial Content", "Content-Range: bytes 0-3/4\r\n")]
)
def test_the_complete_file_is_accepted_with_a_status_of_a_proxy(
    raw_server: Any, answer: Answer, status: str, headers: str
) -> None:
    """A 203, and a 206 that says that it has everything, are the file."""
    raw_server.answers["/v"] = answer(b"abcd", status, headers=headers)

    with open_url(raw_server.url("/v"), LOOPBACK) as download:
        assert download.read(9) == b"abcd"


@pytest.mark.parametrize("said", ["bytes 0-3/9", "bytes 1-4/5", "bytes 0-3/*", "all of it"])
def test_a_part_that_was_not_requested_is_an_error(raw_server: Any, answer: Answer, said: str) -> None:
    """A 206 that does not say that it has everything may lack something."""
    raw_server.answers["/v"] = answer(b"abcd", "206 Partial Content", headers=f"Content-Range: {said}\r\n")

    with pytest.raises(DownloadError), open_url(raw_server.url("/v"), LOOPBACK):
        pass


def test_a_body_in_an_encoding_is_refused(raw_server: Any, answer: Answer) -> None:
    """Bytes that were compressed on the way are not the file."""
    raw_server.answers["/v"] = answer(b"\x1f\x8b", headers="Content-Encoding: gzip\r\n")

    with pytest.raises(DownloadError, match="encoding"), open_url(raw_server.url("/v"), LOOPBACK):
        pass


def test_redirects_are_followed(raw_server: Any, answer: Answer) -> None:
    """Relative and absolute redirects lead to the file."""
    raw_server.answers["/a"] = answer(b"", "302 Found", headers="Location: /b?x=1\r\n")
    raw_server.answers["/b"] = answer(b"", "308 Permanent", headers=f"Location: {raw_server.url('/c')}\r\n")
    raw_server.answers["/c"] = answer(b"here")

    with open_url(raw_server.url("/a"), LOOPBACK) as download:
        assert download.read(10) == b"here"


@pytest.mark.parametrize(
    "location",
    ["https://elsewhere.example/v?sig=s3cr3t", "//elsewhere.example/v?sig=s3cr3t", "file:///etc/passwd", "ftp://h/"],
)
def test_each_redirect_is_checked(raw_server: Any, answer: Answer, location: str) -> None:
    """A redirect to a host or a scheme that is not allowed is refused, and its signature is not shown."""
    raw_server.answers["/a"] = answer(b"", "302 Found", headers=f"Location: {location}\r\n")

    with pytest.raises(HostNotAllowed) as refused, open_url(raw_server.url("/a"), LOOPBACK):
        pass

    assert "s3cr3t" not in all_text_of(refused.value)


@pytest.mark.parametrize("location", ["https://[::1", "https://\u2100.example/?sig=s3cr3t"])
def test_a_redirect_that_is_no_url_is_refused(raw_server: Any, answer: Answer, location: str) -> None:
    """A location that cannot be parsed is an error of the download, not a crash."""
    raw_server.answers["/a"] = answer(b"", "302 Found").replace(
        b"Connection", b"Location: " + location.encode() + b"\r\nConnection"
    )

    with pytest.raises((DownloadError, HostNotAllowed)) as refused, open_url(raw_server.url("/a"), LOOPBACK):
        pass

    assert "s3cr3t" not in all_text_of(refused.value)


def test_redirects_come_to_an_end(raw_server: Any, answer: Answer) -> None:
    """A circle of redirects ends after five."""
    raw_server.answers["/a"] = answer(b"", "302 Found", headers="Location: /a\r\n")

    with pytest.raises(DownloadError, match="redirects"), open_url(raw_server.url("/a"), LOOPBACK):
        pass

    assert raw_server.connections == 6


@pytest.mark.parametrize("allowed", [("*",), ("*.runcomfy.net", "*")])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]", "innocent.example"])
def test_nothing_connects_to_a_private_address(
    raw_server: Any, host: str, allowed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by its text, and not by a public-looking name: whether a port is open would be seen from outside."""
    resolve_to(monkeypatch, "127.0.0.1", "::1")

    with (
        pytest.raises(HostNotAllowed, match="private address"),
        open_url(raw_server.url("/v", scheme="https", host=host), HostPolicy(allowed)),
    ):
        pass

    assert raw_server.connections == 0


def test_a_redirect_does_not_connect_to_a_private_address(raw_server: Any, answer: Answer) -> None:
    """From a host that is allowed, also not by another port of it."""
    raw_server.answers["/a"] = answer(b"", "302 Found", headers="Location: https://169.254.169.254/latest/\r\n")

    with (
        pytest.raises(HostNotAllowed, match="private address"),
        open_url(raw_server.url("/a"), HostPolicy(("*", f"127.0.0.1:{raw_server.port}"))),
    ):
        pass


def test_a_name_is_resolved_once(raw_server: Any, answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was checked is what is connected to, however soon the name leads elsewhere; others of its addresses wait."""
    raw_server.answers["/v"] = answer(b"found")
    policy = HostPolicy((f"media.example:{raw_server.port}",))
    asked = resolve_to(monkeypatch, "127.0.0.9", "127.0.0.1")

    with open_url(raw_server.url("/v", host="media.example"), policy) as download:
        assert download.read(9) == b"found"

    assert asked == ["media.example"]


def test_a_name_that_is_unknown_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a broken connection: it may be misspelt."""
    resolve_to(monkeypatch)

    with (
        pytest.raises(DownloadError, match="name could not be resolved"),
        open_url("https://exmaple.com/v", HostPolicy(("*",))),
    ):
        pass


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Let names lead to these addresses; return the names that were asked for."""
    asked, real = list[str](), socket.getaddrinfo

    def resolved(host: str, *arguments: Any, **options: Any) -> Any:
        if host.replace(":", "").replace(".", "").isdigit():
            return real(host, *arguments, **options)
        asked.append(host)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [found for address in addresses for found in real(address, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    return asked


def test_an_exact_port_does_not_open_the_others(raw_server: Any) -> None:
    """A host that is named with a port may be private on that port only, also beside a wildcard."""
    policy = HostPolicy(("*", "localhost:1"))

    with (
        pytest.raises(HostNotAllowed),
        open_url(raw_server.url("/v", scheme="https", host="localhost"), policy),
    ):
        pass

    assert b"".join(raw_server.received) == b""


def test_broken_encryption_is_an_error(raw_server: Any, answer: Answer) -> None:
    """A host that does not speak TLS is a download error."""
    raw_server.answers[""] = b"not tls at all, not tls at all"

    with pytest.raises(DownloadError), open_url(raw_server.url("/v" + QUERY, scheme="https"), LOOPBACK):
        pass


def test_no_secret_is_sent(raw_server: Any, answer: Answer) -> None:
    """Headers that carry a login are never sent, and no encoding is asked for."""
    raw_server.answers["/v"] = answer(b"x")
    headers = {"authorization": "Bearer t0ken", "Cookie": "t0ken", "If-Match": '"e"', "accept-encoding": "gzip"}

    with open_url(raw_server.url("/v"), LOOPBACK, headers=headers):
        pass

    sent = raw_server.received[0].lower()
    assert b"t0ken" not in sent
    assert b'if-match: "e"' in sent
    assert sent.count(b"accept-encoding: identity") == sent.count(b"accept-encoding") == 1


def test_debug_logs_hold_no_signature(raw_server: Any, answer: Answer, caplog: pytest.LogCaptureFixture) -> None:
    """urllib3 logs each request at DEBUG; everything after the question mark is cut."""
    raw_server.answers["/v"] = answer(b"x")

    with caplog.at_level(logging.DEBUG), open_url(raw_server.url("/v" + QUERY), LOOPBACK):
        pass

    assert "/v" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_an_error_of_the_reader_passes_through(raw_server: Any, answer: Answer) -> None:
    """An error inside the block is not changed."""
    raw_server.answers["/v"] = answer(b"x" * 100)

    with pytest.raises(OSError, match="disk full"), open_url(raw_server.url("/v"), LOOPBACK):
        raise OSError("disk full")


def test_the_environments_proxy_is_used(raw_server: Any, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a proxy a file is asked for through it, with its login; `NO_PROXY` and the allow-list still apply."""
    raw_server.answers["http://files.example.com/a"] = answer(b"through the proxy")
    raw_server.answers["/b"] = answer(b"directly")
    monkeypatch.setenv("http_proxy", f"http://me:pass%20word@127.0.0.1:{raw_server.port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    policy = HostPolicy(("files.example.com", "127.0.0.1"))

    with open_url("http://files.example.com/a", policy) as download:
        assert download.read(100) == b"through the proxy"
    with open_url(raw_server.url("/b"), policy) as download:
        assert download.read(100) == b"directly"
    with pytest.raises(HostNotAllowed), open_url("http://other.example.com/a", policy):
        pass
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{raw_server.port}")
    for host in ("10.0.0.7", "[::1]", "127.1", "2130706433", "localhost", "intranet"):
        with pytest.raises(HostNotAllowed), open_url(f"https://{host}/a", HostPolicy(("*",))):
            pass
    assert len(raw_server.received) == 2
    assert base64.b64encode(b"me:pass word") in raw_server.received[0]
    assert b"Proxy-Authorization" not in raw_server.received[1]
