"""Which hosts bytes may be read from, by name before connecting and by address after it.

A URL in a service's answer is untrusted. Following it blindly would let it reach into this network: so names have to be
on an allow-list, and the address that a name resolves to has to be public.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from runcomfy.errors import ConfigurationError, HostNotAllowed

__all__ = ["DEFAULT_HOSTS", "HostPolicy", "check_reachable"]

DEFAULT_HOSTS = ("*.runcomfy.net", "*.runcomfy.com")
"""The hosts that RunComfy's files were seen on, and that its own command line trusts."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_ADVICE = "If you trust it, add it to the allow-list (RUNCOMFY_OUTPUT_HOSTS, or the block's output hosts)."


@dataclass(frozen=True)
class HostPolicy:
    """Which hosts bytes may be read from.

    Args:
        allowed: Patterns: `*.example.com` (subdomains only), `example.com`, `127.0.0.1`, `127.0.0.1:8188`, or `*` for
            any public host. A host that an entry names exactly, without a wildcard, may also be read over plain
            http, and may be in a private network.
    """

    allowed: tuple[str, ...] = DEFAULT_HOSTS

    def __post_init__(self) -> None:
        for pattern in self.allowed:
            rest = pattern.removeprefix("*.") if pattern != "*" else "any"
            if not rest or any(character in rest for character in "*/@?# ") or (pattern[:1] == "*" and ":" in rest):
                raise ConfigurationError(
                    f"{pattern!r} is not a host pattern. "
                    "Write '*.example.com', 'example.com', 'example.com:8188' or '*'."
                )

    def check_url(self, url: str) -> None:
        """Raise `HostNotAllowed` unless the host is on the list and the URL is https (http where named exactly)."""
        try:
            parts = parse_url(url)
        except LocationParseError:
            parts = Url()
        host = _plain(parts.host or "")
        if not host or parts.scheme not in _DEFAULT_PORTS or parts.auth is not None:
            shown = f"{parts.scheme}:" if parts.scheme else "something else"
            raise HostNotAllowed(
                f"A file is read from a plain https URL with a host and no user name; this one is not ({shown}).",
                host=host or None,
            )
        if self._names(host, parts.port or _DEFAULT_PORTS[parts.scheme]):
            return
        if not any(_matches(pattern, host) for pattern in self.allowed):
            raise HostNotAllowed(f"The host {host} is not on the allow-list. {_ADVICE}", host=host)
        if parts.scheme == "http":
            raise HostNotAllowed(
                f"The host {host} was to be read over http, without encryption, which only hosts that are listed by "
                f"their exact name may be. {_ADVICE}",
                host=host,
            )

    def check_address(self, host: str, address: str) -> None:
        """Raise `HostNotAllowed` if the peer's IP address is not a public one, unless the host is named exactly.

        Called once the connection is established and before anything is sent, so that a name cannot resolve to another
        address between the check and the use. `host` may have a port, which an entry with a port has to match.
        """
        name, port = _split(host)
        if self._names(name, port) or _is_public(address):
            return
        raise HostNotAllowed(
            f"The host {name} leads to {address}, which is not a public address. {_ADVICE}", host=name, address=address
        )

    def _names(self, host: str, port: int | None) -> bool:
        """Whether an entry without a wildcard names this host, and this port if the entry has one."""
        host = _plain(host)
        for pattern in self.allowed:
            named, only_port = _split(pattern)
            if not pattern.startswith("*") and _plain(named) == host and only_port in (None, port):
                return True
        return False


def check_reachable(url: str) -> None:
    """Check that a URL can be fetched from the internet, as far as its text shows.

    Raises:
        ConfigurationError: it is not https, or names a private address or a host of this network.
    """
    parts = parse_url(url)
    host = _plain(parts.host or "")
    try:
        local = not _is_public(host)
    except ValueError:
        local = "." not in host
    if parts.scheme != "https" or local:
        raise ConfigurationError(
            f"RunComfy cannot fetch the image from {parts.scheme}://{host}: it takes https URLs of public hosts. "
            "Give the store the address that the internet sees, its public endpoint URL."
        )


def _plain(host: str) -> str:
    return host.lower().strip("[]").rstrip(".")


def _split(text: str) -> tuple[str, int | None]:
    """Split `host`, `host:port`, `::1` or `[::1]:port`."""
    host, separator, port = text.rpartition(":")
    if separator and port.isdigit() and (":" not in host or host.endswith("]")):
        return _plain(host), int(port)
    return _plain(text), None


def _matches(pattern: str, host: str) -> bool:
    return pattern == "*" or (pattern.startswith("*.") and host.endswith(f".{_plain(pattern[2:])}"))


def _is_public(address: str) -> bool:
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.sixtofour is not None:
            return False  # relays for it are gone (RFC 7526), and Python versions classify it differently
        # IPv6 forms that contain an IPv4 address lead to that one.
        inner = ip.ipv4_mapped
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        ip = inner or ip
    return ip.is_global and not ip.is_multicast and not ip.is_reserved
