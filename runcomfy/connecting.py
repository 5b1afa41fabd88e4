"""Why a connection failed, in words: name, certificate, refusal, no answer; and where it was to go."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

__all__ = ["NoConnection", "address_of", "causes", "no_connection"]

_TIMEOUTS = (TimeoutError, httpx.TimeoutException, ConnectTimeoutError, ReadTimeoutError)
_BROKEN = (ConnectionResetError, BrokenPipeError, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
_PORTS = {"http": 80, "https": 443}


class NoConnection(NamedTuple):
    """Why a host could not be reached: what was seen, and what to do, each a sentence."""

    found: str
    advice: str


def address_of(url: str) -> str:
    """Return host and port of a URL, and the proxy that calls to it go through, if there is one.

    Proxies are those that httpx takes from the environment: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or _PORTS.get(parts.scheme)
    shown = f"[{host}]" if ":" in host else host
    proxies = getproxies()
    proxy = urlsplit(proxies.get(parts.scheme) or proxies.get("all") or "").netloc.rpartition("@")[2]
    through = f" (through the proxy {proxy})" if proxy and not proxy_bypass(host) else ""
    return (f"{shown}:{port}" if port else shown) + through


def no_connection(error: BaseException, host: str) -> NoConnection:
    """Name the reason for which a host could not be reached.

    Args:
        error: What httpx or boto3 raised.
        host: The host, with its port where it has one; see `address_of`.
    """
    chain = list(causes(error))
    if isinstance(error, httpx.PoolTimeout):
        return NoConnection(f"No connection to {host} was free in time: too many calls at once.", "Run fewer at once.")
    for cause in chain:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return NoConnection(
                f"The certificate of {host} is not accepted: {cause.verify_message or cause.reason}.",
                "Give the server a certificate that is valid for this name, or trust its authority here "
                "(SSL_CERT_FILE, AWS_CA_BUNDLE).",
            )
        if isinstance(cause, ssl.SSLError):
            return NoConnection(
                f"{host} does not speak TLS as this machine does ({cause.reason or 'handshake failed'}).",
                "Check https or http in the URL, and its port.",
            )
        if isinstance(cause, socket.gaierror):
            return NoConnection(
                f"The name of {host} is not known (DNS).", "Check the spelling, and this machine's DNS."
            )
        if isinstance(cause, ConnectionRefusedError):
            return NoConnection(f"Nothing listens at {host}: the connection was refused.", "Check address and port.")
    if any(isinstance(cause, _TIMEOUTS) for cause in chain):
        return NoConnection(f"{host} did not answer in time.", "Check the network, and any proxy or firewall.")
    if any(isinstance(cause, httpx.ProxyError) for cause in chain):
        return NoConnection(f"The proxy refuses to connect to {host}.", "Check HTTPS_PROXY, NO_PROXY, and its login.")
    if any(isinstance(cause, _BROKEN) for cause in chain):
        return NoConnection(f"The connection to {host} broke.", "Check the network, and any proxy or firewall.")
    return NoConnection(f"No connection to {host} ({type(error).__name__}).", "Check the network and the address.")


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what led to it; libraries keep that in different places."""
    seen: set[int] = set()
    pending: list[object] = [error]
    while pending:
        found = pending.pop()
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        kwargs = getattr(found, "kwargs", None)
        inner = kwargs.get("error") if isinstance(kwargs, dict) else None
        pending += [found.__cause__, found.__context__, getattr(found, "reason", None), inner]
