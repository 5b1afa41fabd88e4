"""Which hosts bytes may be read from, by name and by address, before anything connects to them.

A URL in a service's answer is untrusted. Following it blindly would let it reach into this network: so names have to be
on an allow-list, and the addresses that a name resolves to have to be public.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from runcomfy.errors import ConfigurationError, HostNotAllowed

__all__ = ["DEFAULT_HOSTS", "HostPolicy", "check_reachable", "written_address"]

DEFAULT_HOSTS = ("*.runcomfy.net", "*.runcomfy.com")
"""The hosts that RunComfy's files were seen on, and that its own command line trusts."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NEVER_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's services for its machines: learn.microsoft.com, "What is IP address 168.63…"
        "192.0.0.0/24",  # this and the rest: IANA's special-purpose registries; metadata of Oracle's machines
        "192.88.99.0/24", "64:ff9b:1::/48", "2001::/23", "3fff::/20", "5f00::/16", "fec0::/10",
    )
)  # fmt: skip
"""What Python versions, or all of them, take for public."""
_LOOPBACK = "127.0.0.1"
_PORT = re.compile(r"[0-9]{1,5}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_LONGEST_NAME, _LONGEST_PART = 253, 63
_PRIVATE_NAMES = (
    "corp", "home", "home.arpa", "internal", "intranet", "lan", "local", "localdomain", "localhost", "private"
)  # fmt: skip
"""Top-level names that are never on the internet: RFC 6761, RFC 6762 (appendix G), RFC 8375; `internal` by ICANN."""
_ADVICE = "If you trust it, add it to the allow-list (RUNCOMFY_OUTPUT_HOSTS, or the block's output hosts)."


@dataclass(frozen=True)
class HostPolicy:
    """Which hosts bytes may be read from.

    Args:
        allowed: Patterns: `*.example.com` (subdomains only), `example.com`, `127.0.0.1`, `127.0.0.1:8188`, or `*` for
            any public host. A host that an entry names exactly, without a wildcard, may also be read over plain
            http, and may be in a private network.
        advice: What a person may do about a host that is not allowed; the end of each refusal.
    """

    allowed: tuple[str, ...] = DEFAULT_HOSTS
    advice: str = _ADVICE

    def __post_init__(self) -> None:
        for pattern in self.allowed:
            rest = pattern.removeprefix("*.") if pattern != "*" else "any"
            if not rest or any(character in rest for character in "*/@?# ") or (pattern[:1] == "*" and ":" in rest):
                raise ConfigurationError(
                    f"{pattern!r} is not a host pattern. "
                    "Write '*.example.com', 'example.com', 'example.com:8188' or '*'."
                )

    def check_url(self, url: str) -> None:
        """Raise `HostNotAllowed` unless the host is on the list and the URL is https (http where named exactly).

        A private address is refused in any spelling that a resolver understands (`127.1`, `0x7f.1`, `2130706433`,
        `[::ffff:7f00:1]`), as are names that are never on the internet, so that nothing connects to them.
        """
        try:
            parts = parse_url(url)
        except LocationParseError:  # such as a port that is none, or a blank in the host
            named = _SCHEME.match(url)
            parts = Url(scheme=named[1].lower() if named else None)
        host = _plain(parts.host or "")
        if (
            not host
            or parts.scheme not in _DEFAULT_PORTS
            or parts.auth is not None
            or ("%" in host and ":" not in host)
            or not _can_be(host)
        ):
            raise HostNotAllowed(f"{_odd_url(parts)} {self.advice}", host=host or None)
        if self._names(host, parts.port or _DEFAULT_PORTS[parts.scheme]):
            return
        if not any(_matches(pattern, host) for pattern in self.allowed):
            raise HostNotAllowed(f"The host {host} is not on the allow-list. {self.advice}", host=host)
        address = written_address(host)
        if address is not None and not _is_public(address):
            verb = "leads to" if host[:1].isalpha() and ":" not in host else "is"
            raise HostNotAllowed(
                f"The host {host} {verb} a private address, so nothing was sent to it. {self.advice}",
                host=host,
                address=address,
            )
        if parts.scheme == "http":
            raise HostNotAllowed(
                f"The host {host} was to be read over http://, without encryption. Use https://, if it offers that. "
                f"{self.advice}",
                host=host,
            )

    def check_address(self, host: str, address: str) -> None:
        """Raise `HostNotAllowed` if the peer's IP address is not a public one, unless the host is named exactly.

        Called before connecting, and again once the connection is established and before anything is sent. `host` may
        have a port, which an entry with a port has to match.
        """
        name, port = _split(host)
        if self._names(name, port) or _is_public(address):
            return
        raise HostNotAllowed(
            f"The host {name} leads to {address}, which is a private address and not a public one. {self.advice}",
            host=name,
            address=address,
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
    address = written_address(host)
    local = address is not None and not _is_public(address)
    if parts.scheme != "https" or local:
        raise ConfigurationError(
            f"RunComfy cannot fetch the image from {parts.scheme}://{host}: it takes https URLs of public hosts. "
            "Give the store the address that the internet sees, its public endpoint URL."
        )


def written_address(host: str) -> str | None:
    """Return the address that a host is written as, in any spelling, and this machine's for a name that is never on the
    internet; `None` for any other name."""
    host = _plain(host)
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))  # what a resolver makes of it
    except (OSError, UnicodeError, ValueError):
        local = "." not in host or host.endswith(tuple(f".{name}" for name in _PRIVATE_NAMES))
        return _LOOPBACK if local else None


def _can_be(host: str) -> bool:
    """Whether a name or address can exist: names have parts of 1 to 63 characters, 253 in all (RFC 1035, 2.3.4), and
    one that ends in a number is an address (URL Standard, "ends in a number checker")."""
    if ":" in host:
        return True
    parts = host.split(".")
    if len(host) > _LONGEST_NAME or not all(0 < len(part) <= _LONGEST_PART for part in parts):
        return False
    return not (parts[-1].isascii() and parts[-1].isdigit()) or written_address(host) is not None


def _odd_url(parts: Url) -> str:
    if parts.auth is not None and parts.scheme in _DEFAULT_PORTS:
        return "The URL has a user name or a password in it, which are not sent. Use a URL that needs none."
    if parts.scheme in _DEFAULT_PORTS:
        return "The URL names no host, or a host or port that cannot be. Check how it is written: https://HOST/PATH."
    shown = f"with {parts.scheme}:" if parts.scheme else "with no scheme"
    return f"The URL begins {shown}, and files are read over https://. Use such a URL."


def _plain(host: str) -> str:
    return host.lower().strip("[]").rstrip(".")


def _split(text: str) -> tuple[str, int | None]:
    """Split `host`, `host:port`, `::1` or `[::1]:port`."""
    host, separator, port = text.rpartition(":")
    if separator and _PORT.fullmatch(port) and (":" not in host or host.endswith("]")):
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
    if any(ip in network for network in _NEVER_PUBLIC):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved
