"""Whether RunComfy could fetch an image: by a signed URL, for long enough, from outside."""

from __future__ import annotations

import socket
from datetime import timedelta
from urllib.parse import urlsplit

from humanize import precisedelta

from runcomfy.connecting import no_connection
from runcomfy.doctor.findings import Diagnosis, broken, not_checked, ok, refused, warning
from runcomfy.doctor.running import in_thread
from runcomfy.download.hosts import HostPolicy, check_reachable
from runcomfy.errors import ConfigurationError, HostNotAllowed, StorageError
from runcomfy.storage.signed_urls import read_signed
from runcomfy.storage.store import Store

__all__ = ["reachable_from_outside", "signed_for", "signed_url_serves"]

_BRIEFLY = timedelta(minutes=1)
_UNSIGNED = not_checked("because nothing can be signed")
_PUBLIC = HostPolicy(allowed=("*",))


async def signed_url_serves(store: Store, key: str, size_bytes: int) -> Diagnosis:
    """Fetch one byte of an object by a URL that is signed for the public endpoint, and for our own if it is another."""
    try:
        host, own_host = await in_thread(
            lambda: [urlsplit(store.sign(key, _BRIEFLY, own=own)).netloc for own in (False, True)]
        )
    except ConfigurationError:
        return _UNSIGNED

    async def problem(*, own: bool) -> Diagnosis | None:
        found = await in_thread(lambda: read_signed(store, key, size_bytes=size_bytes, lifetime=_BRIEFLY, own=own))
        return broken(*no_connection(found.error, found.host)) if found is not None else None

    if own_host != host and (broken_here := await problem(own=True)):
        return broken_here
    unreachable = await problem(own=False)
    if unreachable is None:
        return ok(f"fetched from {host}")
    if own_host == host:
        return unreachable
    return warning(
        f"{unreachable.found} {own_host} works, but the public address cannot be tried from this machine.",
        "Make sure that it works from outside.",
    )


def signed_for(store: Store, lifetime: timedelta) -> Diagnosis:
    """Sign a URL that outlives both deadlines, as a submission does. Blocks.

    Args:
        store: Signs the URL.
        lifetime: How long the URL is to live.
    """
    wanted = precisedelta(lifetime, minimum_unit="minutes", format="%d")
    try:
        url = store.sign(store.key("images/none"), lifetime)
    except ConfigurationError as error:
        left = store.credentials_remaining()
        if left is None or left >= lifetime:
            return refused(error)
        return broken(
            f"The credentials end in {precisedelta(left, minimum_unit='minutes', format='%d')}, "
            f"and images are signed for {wanted}.",
            "Use keys, or a role whose sessions last longer; or shorten the deadlines.",
        )
    left = store.credentials_remaining()
    if left is None and "X-Amz-Security-Token" in url:
        return warning(
            f"Images are signed for {wanted}, by temporary credentials whose end is unknown.",
            "Use keys, a profile or a role instead of a copied session token.",
        )
    if left is None:
        return ok(f"{wanted}, which both deadlines need")
    valid = precisedelta(left, minimum_unit="minutes", format="%d")
    return ok(f"{wanted}, which both deadlines need; the credentials are valid for {valid}")


def reachable_from_outside(store: Store) -> Diagnosis:
    """Check the host that images are signed for: its name, and the address that it has here. Blocks."""
    try:
        url = store.sign(store.key("images/none"), _BRIEFLY)
    except (ConfigurationError, StorageError):
        return _UNSIGNED
    host = str(urlsplit(url).hostname)
    try:
        check_reachable(url)
    except ConfigurationError as error:
        found, _, advice = error.message.partition(". ")
        return broken(f"{found}.", f"{advice} Text-to-video works without it.")
    try:
        addresses = {str(found[4][0]) for found in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)}
    except OSError:
        return ok(f"{host}; its address cannot be resolved here")
    for address in addresses:
        try:
            _PUBLIC.check_address(host, address)
        except HostNotAllowed:
            return warning(
                f"{host} is {address} here, which is no public address.",
                "Make sure that public DNS has another one: RunComfy fetches images from outside.",
            )
    return ok(host)
