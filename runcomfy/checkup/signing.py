"""Whether RunComfy could fetch a picture: by a signed URL, for long enough, from outside."""

from __future__ import annotations

import re
import socket
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
from humanize import precisedelta

from runcomfy.checkup.connecting import no_connection
from runcomfy.checkup.findings import Mark, Verdict, broken, not_checked, ok, refused, warning
from runcomfy.checkup.running import in_thread
from runcomfy.errors import ConfigurationError, HostNotAllowed, StorageError
from runcomfy.hosts import HostPolicy, check_reachable
from runcomfy.store import Store

__all__ = ["reachable_from_outside", "signed_for", "signed_url_serves"]

_BRIEFLY = timedelta(minutes=1)
_UNSIGNED = not_checked("because nothing can be signed")
_PUBLIC = HostPolicy(allowed=("*",))


async def signed_url_serves(store: Store, key: str) -> Verdict:
    """Fetch one byte of an object by a URL that is signed for the public endpoint, and for our own if it is another."""
    try:
        public = await in_thread(lambda: store.sign(key, _BRIEFLY))
    except ConfigurationError:
        return _UNSIGNED
    own = await in_thread(
        lambda: store.client.generate_presigned_url(
            "get_object", Params={"Bucket": store.bucket, "Key": key}, ExpiresIn=int(_BRIEFLY.total_seconds())
        )
    )
    host, own_host = urlsplit(public).netloc, urlsplit(own).netloc
    if own_host != host:
        verdict = await _fetch(own)
        if verdict.mark is not Mark.OK:
            return verdict
    try:
        return await _fetch(public)
    except httpx.HTTPError as error:
        trouble = no_connection(error, host)
        if own_host == host:
            return trouble
        return warning(
            f"{trouble.found} {own_host} serves, but the public address cannot be tried from this machine.",
            "Make sure that it serves from outside.",
        )


def signed_for(store: Store, lifetime: timedelta) -> Verdict:
    """Sign a URL that outlives both deadlines, as a submission does. Blocks.

    Args:
        store: Signs.
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
            f"and pictures are signed for {wanted}.",
            "Use keys, or a role whose sessions last longer; or shorten the deadlines.",
        )
    left = store.credentials_remaining()
    if left is None and "X-Amz-Security-Token" in url:
        return warning(
            f"Pictures are signed for {wanted}, by temporary credentials whose end nobody knows.",
            "Use keys, a profile or a role instead of a copied session token.",
        )
    ends = (
        "" if left is None else f"; the credentials serve for {precisedelta(left, minimum_unit='minutes', format='%d')}"
    )
    return ok(f"{wanted}, which both deadlines need{ends}")


def reachable_from_outside(store: Store) -> Verdict:
    """Judge the host that pictures are signed for, by its name and by the address that it has here. Blocks."""
    try:
        url = store.sign(store.key("images/none"), _BRIEFLY)
    except (ConfigurationError, StorageError):
        return _UNSIGNED
    host = str(urlsplit(url).hostname)
    try:
        check_reachable(url)
    except ConfigurationError as error:
        found, _, advice = error.message.partition(". ")
        return broken(f"{found}.", f"{advice} Text-to-video works without.")
    try:
        addresses = {str(found[4][0]) for found in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)}
    except OSError:
        return ok(f"{host}; its address cannot be looked up here")
    for address in addresses:
        try:
            _PUBLIC.check_address(host, address)
        except HostNotAllowed:
            return warning(
                f"{host} is {address} here, which is no public address.",
                "Make sure that the internet's DNS knows another one: RunComfy fetches pictures from outside.",
            )
    return ok(host)


async def _fetch(url: str) -> Verdict:
    async with httpx.AsyncClient(timeout=15) as client:
        answer = await client.get(url, headers={"Range": "bytes=0-0"})
    host = urlsplit(url).netloc
    if answer.status_code == 206 or (answer.status_code == 200 and answer.content):
        return ok(f"fetched from {host}")
    code = re.search(r"<Code>(\w+)</Code>", answer.text)
    return broken(
        f"{host} answers {answer.status_code} {code[1] if code else ''} to a signed URL.".replace("  ", " "),
        "Check the public endpoint URL, the region, and proxies that change the Host header.",
    )
