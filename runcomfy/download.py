"""Read a URL as a stream, and take nothing for granted: not the host, not the redirect, not the end of the body.

Video bytes go through urllib3, several times cheaper per gigabyte than the client for the API. A body that was cut is
an error here, never a short file. What the bytes are is not looked at.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.parse import unquote, urljoin
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError, SSLError
from urllib3.exceptions import TimeoutError as TransportTimeout
from urllib3.response import BaseHTTPResponse
from urllib3.util import make_headers, parse_url

from runcomfy.errors import DownloadError
from runcomfy.hosts import HostPolicy
from runcomfy.redaction import redact_loggers

__all__ = ["Download", "open_url"]

_SOME_PUBLIC_ADDRESS = "1.1.1.1"
_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_FOR_CALLERS = frozenset({"accept-encoding", "authorization", "cookie", "proxy-authorization"})
_T = TypeVar("_T")


class Download:
    """An open answer with status 200: what it says of itself, and its body."""

    def __init__(self, response: BaseHTTPResponse, host: str) -> None:
        self._response = response
        self._received = 0
        self.host = host
        self.content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        length = response.headers.get("Content-Length", "")
        chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        self.length: int | None = int(length) if length.isascii() and length.isdigit() and not chunked else None

    def read(self, amount: int, /) -> bytes:
        """Return exactly `amount` bytes, fewer only at the end of the body.

        Raises:
            DownloadError: The connection broke, stalled, or ended before the announced length.
        """
        pieces: list[bytes] = []
        missing = amount
        while missing > 0:
            piece = _transported(partial(self._response.read, missing, decode_content=False), self.host)
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
            self._received += len(piece)
        if missing > 0 and self.length is not None and self._received < self.length:
            raise DownloadError(
                f"The file from {self.host} was cut after {self._received:,} of {self.length:,} bytes. Try again.",
                host=self.host,
            )
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def unblock(self) -> None:
        """End a read that blocks in another thread: it returns the end of the file, or raises."""
        with suppress(OSError, RuntimeError, ValueError):  # it has been closed meanwhile
            self._response.shutdown()


@contextmanager
def open_url(
    url: str,
    policy: HostPolicy,
    *,
    connect_timeout_seconds: float = 10.0,
    read_timeout_seconds: float = 60.0,
    headers: Mapping[str, str] | None = None,
) -> Iterator[Download]:
    """Open a URL and close its connection at the end; blocks, so call it in a thread.

    Up to five redirects are followed, each checked like the first URL. Neither tokens nor cookies are ever sent.
    Errors name the host only, because what follows the `?` may be a signature.

    Raises:
        HostNotAllowed: The URL, a redirect, or the address behind it is not allowed.
        DownloadError: Anything but a 200, or trouble on the way.
    """
    timeout = urllib3.Timeout(connect=connect_timeout_seconds, read=read_timeout_seconds)
    sent = {name: value for name, value in (headers or {}).items() if name.lower() not in _NOT_FOR_CALLERS}
    sent = {"Accept": "*/*", "User-Agent": "runcomfy-prefect", **sent, "Accept-Encoding": "identity"}
    redact_loggers()
    for _ in range(_MOST_REDIRECTS + 1):
        policy.check_url(url)
        with _request(url, policy, timeout, sent) as (response, host):
            location = response.headers.get("Location", "")
            if response.status in _REDIRECTS and location:
                url = _transported(partial(urljoin, url, location), host)
                continue
            if response.status != 200:
                raise DownloadError(
                    f"{host} answered {response.status} instead of the file.{_advice(response.status)}",
                    http_status=response.status,
                    host=host,
                )
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise DownloadError(f"{host} sent the file in an encoding that nobody asked for. Try again.", host=host)
            yield Download(response, host)
            return
    raise DownloadError(f"More than {_MOST_REDIRECTS} redirects, the last one by {host}. Look at the URL.", host=host)


@contextmanager
def _request(
    url: str, policy: HostPolicy, timeout: urllib3.Timeout, headers: Mapping[str, str]
) -> Iterator[tuple[BaseHTTPResponse, str]]:
    """Send one GET over a connection of its own."""
    parts = parse_url(url)
    host = parts.host or ""
    pool: urllib3.HTTPConnectionPool | urllib3.ProxyManager
    target = parts.request_uri
    proxy = _transported(partial(_proxy, parts.scheme or "", host), host)
    if proxy is not None:
        # what a name leads to is the proxy's to see; what can be told from its text is ours
        policy.check_address(parts.netloc or host, _written_address(host))
        pool, target = proxy, url
    elif parts.scheme == "https":
        pool = urllib3.HTTPSConnectionPool(host, parts.port, timeout=timeout, maxsize=1, policy=policy)
        pool.ConnectionCls = _CheckedHTTPSConnection
    else:
        pool = urllib3.HTTPConnectionPool(host, parts.port, timeout=timeout, maxsize=1, policy=policy)
        pool.ConnectionCls = _CheckedHTTPConnection
    with pool:
        response = _transported(
            lambda: pool.urlopen(
                "GET", target, headers=headers, redirect=False, retries=False, timeout=timeout,
                preload_content=False, decode_content=False,
            ),
            host,
        )  # fmt: skip
        try:
            yield response, host
        finally:
            response.close()


def _written_address(host: str) -> str:
    """The address that a host is written as, in any of its spellings; names are taken for public if they have a dot."""
    host = host.strip("[]")
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return _SOME_PUBLIC_ADDRESS if "." in host.rstrip(".") else "127.0.0.1"


def _proxy(scheme: str, host: str) -> urllib3.ProxyManager | None:
    """The proxy that the environment names (`HTTPS_PROXY`, `NO_PROXY`), which httpx and boto3 go through as well."""
    address = getproxies().get(scheme) or getproxies().get("all")
    if not address or proxy_bypass(host.strip("[]")):
        return None
    parts = parse_url(address if "://" in address else f"http://{address}")
    login = make_headers(proxy_basic_auth=unquote(parts.auth)) if parts.auth else None
    return urllib3.ProxyManager(f"{parts.scheme}://{parts.netloc}", proxy_headers=login)


def _transported(call: Callable[[], _T], host: str) -> _T:
    """Make a call of urllib3's, and raise its trouble as an error without a past.

    urllib3's errors hold the URL with its signature. They must not even be the context of ours, so ours is raised
    after the handler has ended.
    """
    try:
        return call()
    except (HTTPError, HTTPException, OSError, ValueError) as error:
        trouble = _trouble(error)
    raise DownloadError(f"The file from {host} could not be read: {trouble}. Try again.", host=host)


def _trouble(error: Exception) -> str:
    if isinstance(error, NewConnectionError):
        return "no connection"
    if isinstance(error, TransportTimeout):
        return "no answer in time"
    if isinstance(error, SSLError):
        return "its certificate or its encryption is not acceptable"
    return f"the connection broke ({type(error).__name__})"


def _advice(status: int) -> str:
    if status in (401, 403, 404, 410):
        return " The URL may have expired: fetch the result again."
    return " Try again." if status >= 500 or status in (408, 429) else ""


class _Checked:
    """Check the peer's address as soon as the connection stands.

    `_new_conn` comes before the TLS handshake, so that a forbidden peer sees nothing at all, but it is urllib3's own
    affair; `connect` is public and catches what a future urllib3 would let slip.
    """

    def __init__(self, *arguments: Any, policy: HostPolicy, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._policy = policy

    def _new_conn(self) -> socket.socket:
        connected: socket.socket = super()._new_conn()  # type: ignore[misc]
        try:
            self._check(connected)
        except BaseException:
            connected.close()
            raise
        return connected

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self._check(self.sock)  # type: ignore[attr-defined]

    def _check(self, connected: socket.socket) -> None:
        host, port = self.host, self.port  # type: ignore[attr-defined]
        self._policy.check_address(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", connected.getpeername()[0])


class _CheckedHTTPConnection(_Checked, HTTPConnection):
    pass


class _CheckedHTTPSConnection(_Checked, HTTPSConnection):
    pass
