"""GETs that check every URL and every peer, and whose errors never show a URL.

Videos are read with urllib3, which costs several times less per gigabyte than the client for the API.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urljoin
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError, SSLError
from urllib3.exceptions import TimeoutError as TransportTimeout
from urllib3.response import BaseHTTPResponse
from urllib3.util import make_headers, parse_url
from urllib3.util.connection import allowed_gai_family, create_connection

from runcomfy.download.hosts import HostPolicy
from runcomfy.errors import DownloadError, HostNotAllowed

__all__ = ["Fetcher", "HttpAnswer", "transported"]

_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEPT_CONNECTIONS = 4
_T = TypeVar("_T")


class HttpAnswer(NamedTuple):
    """An answer that is not a redirect, with its body unread, and the host that gave it."""

    response: BaseHTTPResponse
    host: str

    def header(self, name: str) -> str:
        """Return a header, empty if it is missing."""
        return str(self.response.headers.get(name, "")).strip()


class Fetcher:
    """Sends GETs under one policy; thread-safe. Connections whose answers were read to their end are reused."""

    def __init__(self, policy: HostPolicy, timeout: urllib3.Timeout, headers: Mapping[str, str]) -> None:
        self.interrupted = threading.Event()
        """Set when the reading was stopped."""
        self._policy = policy
        self._timeout = timeout
        self._headers = headers
        self._pools: dict[tuple[str, str, int | None], urllib3.HTTPConnectionPool] = {}
        self._proxies: dict[str, urllib3.ProxyManager] = {}
        self._interruptible: WeakSet[socket.socket | BaseHTTPResponse] = WeakSet()
        self._lock = threading.Lock()

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> HttpAnswer:
        """Send one GET, follow up to five redirects, each checked like the first URL, and return the answer.

        Raises:
            HostNotAllowed: The URL, a redirect, or the address behind it is not allowed.
            DownloadError: There was no answer, there were too many redirects, or the reading was stopped.
        """
        for _ in range(_MAX_REDIRECTS + 1):
            self._policy.check_url(url)
            if self.interrupted.is_set():
                raise DownloadError("The reading was stopped.")
            response, host = self._send(url, {**self._headers, **(headers or {})})
            location = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not location:
                return HttpAnswer(response, host)
            response.close()
            url = transported(partial(urljoin, url, location), host)
        raise DownloadError(
            f"More than {_MAX_REDIRECTS} redirects, the last one by {host}. Look at the URL.", host=host
        )

    def interrupt(self) -> None:
        """End what blocks in other threads: it returns the end of the file, or raises. It does not end connecting."""
        with self._lock:
            self.interrupted.set()
            for blocking in self._interruptible:
                _shut_down(blocking)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            for pool in self._pools.values():
                pool.close()
            for proxy in self._proxies.values():
                proxy.clear()

    def register(self, blocking: socket.socket | BaseHTTPResponse) -> None:
        """Register what `interrupt` has to shut down."""
        with self._lock:
            self._interruptible.add(blocking)
            if self.interrupted.is_set():
                _shut_down(blocking)

    def check_peer(self, host: str, address: str) -> None:
        """Check the address of a connection's peer."""
        self._policy.check_address(host, address)

    def _send(self, url: str, headers: Mapping[str, str]) -> tuple[BaseHTTPResponse, str]:
        parts = parse_url(url)
        host = parts.host or ""
        proxy = transported(partial(_proxy, parts.scheme or "", host), host)
        pool: urllib3.HTTPConnectionPool | urllib3.ProxyManager
        if proxy is not None:
            with self._lock:
                pool, target = self._proxies.setdefault(parts.scheme or "", proxy), url
        else:
            pool, target = self._pool(parts.scheme or "", host, parts.port), parts.request_uri
        response = transported(
            lambda: pool.urlopen(
                "GET", target, headers=headers, redirect=False, retries=False, timeout=self._timeout,
                preload_content=False, decode_content=False,
            ),
            host,
        )  # fmt: skip
        self.register(response)
        return response, host

    def _pool(self, scheme: str, host: str, port: int | None) -> urllib3.HTTPConnectionPool:
        with self._lock:
            pool = self._pools.get((scheme, host, port))
            if pool is None:
                https = scheme == "https"
                kind = urllib3.HTTPSConnectionPool if https else urllib3.HTTPConnectionPool
                pool = kind(host, port, timeout=self._timeout, maxsize=_KEPT_CONNECTIONS, fetcher=self)
                pool.ConnectionCls = _CheckedHTTPSConnection if https else _CheckedHTTPConnection
                self._pools[scheme, host, port] = pool
            return pool


def transported(call: Callable[[], _T], host: str) -> _T:
    """Make a call of urllib3's, and raise its failure as an error of ours without a context.

    urllib3's errors hold the URL with its signature. They must not even be the context of ours, so ours is raised
    outside the handler.
    """
    try:
        return call()
    except (HTTPError, HTTPException, OSError, ValueError) as error:
        reason = _reason(error)
    raise DownloadError(f"The file from {host} could not be read: {reason}. Try again.", host=host)


def _reason(error: Exception) -> str:
    if isinstance(error, NameResolutionError):
        return "its name could not be resolved; it may be misspelt"
    if isinstance(error, NewConnectionError):
        return "no connection"
    if isinstance(error, TransportTimeout):
        return "no answer in time"
    if isinstance(error, SSLError):
        return "its certificate or its encryption is not acceptable"
    return f"the connection broke ({type(error).__name__})"


def _shut_down(blocking: socket.socket | BaseHTTPResponse) -> None:
    with suppress(OSError, RuntimeError, ValueError):  # it was closed in the meantime
        if isinstance(blocking, socket.socket):
            blocking.shutdown(socket.SHUT_RD)
        else:
            blocking.shutdown()


def _proxy(scheme: str, host: str) -> urllib3.ProxyManager | None:
    """The proxy that the environment names (`HTTPS_PROXY`, `NO_PROXY`), which httpx and boto3 use too."""
    address = getproxies().get(scheme) or getproxies().get("all")
    if not address or proxy_bypass(host.strip("[]")):
        return None
    parts = parse_url(address if "://" in address else f"http://{address}")
    login = make_headers(proxy_basic_auth=unquote(parts.auth)) if parts.auth else None
    return urllib3.ProxyManager(f"{parts.scheme}://{parts.netloc}", proxy_headers=login)


class _Checked:
    """Connect only to addresses that were checked, and check the peer's again.

    `_new_conn` is private to urllib3; `connect` is public, and still checks if a future one does not call the other.
    """

    def __init__(self, *arguments: Any, fetcher: Fetcher, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._fetcher = fetcher

    def _new_conn(self) -> socket.socket:
        """Resolve the name once, and connect to the first address that is allowed and answers."""
        here: Any = self  # what urllib3's connection is made of
        try:
            found = socket.getaddrinfo(here.host, here.port, allowed_gai_family(), socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError):
            raise NameResolutionError(here.host, here, socket.gaierror("unknown")) from None
        addresses = dict.fromkeys(str(each[4][0]) for each in found)
        allowed = [address for address in addresses if self._is_allowed(address)]
        if not allowed:
            self._check(*addresses)
        failure = OSError("no address")
        for address in allowed:
            try:
                return create_connection(
                    (address, here.port), here.timeout, here.source_address, here.socket_options
                )  # fmt: skip
            except OSError as error:
                failure = error
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(here, "no answer in time")
        raise NewConnectionError(here, "no connection")

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self._check(self.sock.getpeername()[0])  # type: ignore[attr-defined]
        self._fetcher.register(self.sock)  # type: ignore[attr-defined]

    def _check(self, *addresses: str) -> None:
        host, port = self.host, self.port  # type: ignore[attr-defined]
        for address in addresses:
            self._fetcher.check_peer(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", address)

    def _is_allowed(self, address: str) -> bool:
        try:
            self._check(address)
        except HostNotAllowed:
            return False
        return True


class _CheckedHTTPConnection(_Checked, HTTPConnection):
    pass


class _CheckedHTTPSConnection(_Checked, HTTPSConnection):
    pass
