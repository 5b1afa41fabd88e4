"""Check that a signed URL can be read, before anything is paid for.

Otherwise a URL that cannot be read is noticed only after the payment, by each row of a batch again: the service fetches
an image when its job runs.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

from runcomfy.storage.one_byte import FetchRefusal, Unreachable, read_one_byte
from runcomfy.storage.store import Store

__all__ = ["check_signed_url", "read_signed"]

_UNREACHABLE_SECONDS = 300.0


class _Address:
    """What this process knows of an address that URLs are signed for."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known_until: float | None = None


_addresses: defaultdict[tuple[str, ...], _Address] = defaultdict(_Address)
_guard = threading.Lock()


def check_signed_url(
    store: Store, key: str, *, bucket: str | None = None, size_bytes: int | None = None, lifetime: timedelta,
    clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep,
) -> str | None:  # fmt: skip
    """Read a byte by a signed URL, once for each process and store, before anything is paid for. Blocks.

    If the address cannot be reached from here (DNS, connection, time-out), the service may still reach it: a warning
    for a person is returned, once, and it is tried again after five minutes. A refusal is not remembered.

    Args:
        store: Signs.
        key: An existing object.
        bucket: Its bucket, if it is not that of the store.
        size_bytes: Its size, to detect a page that something in between answers with instead.
        lifetime: How long the URL that the service gets will be valid.
        clock: A monotonic clock, in seconds.
        sleep: Waits between attempts, in seconds.

    Raises:
        ConfigurationError: It is refused, redirected or something else, or cannot be signed for that long.
        StoreUnavailable: The store fails (5xx, 429), three times in a row.
        StorageError: There are no credentials.
    """
    store.find_region(bucket)
    url = urlsplit(store.sign(key, lifetime, bucket))
    who = parse_qs(url.query).get("X-Amz-Credential", [""])[0].partition("/")[0]
    with _guard:
        address = _addresses[url.scheme, url.netloc, url.path.rpartition("/")[0], bucket or store.bucket, who]
    with address.lock:  # of many concurrent callers, one tries and the others wait
        if address.known_until is not None and clock() < address.known_until:
            return None
        trouble = read_signed(store, key, bucket=bucket, size_bytes=size_bytes, lifetime=lifetime, sleep=sleep)
        is_news = address.known_until is None
        address.known_until = float("inf") if trouble is None else clock() + _UNREACHABLE_SECONDS
    if trouble is None or not is_news:
        return None
    return (
        f"{trouble.host}, which inputs are signed for, cannot be tried from here ({type(trouble.error).__name__}). The "
        "service may reach it; if it does not, what follows is paid for in vain: `doctor` says more."
    )


def read_signed(
    store: Store, key: str, *, bucket: str | None = None, size_bytes: int | None = None, lifetime: timedelta,
    own: bool = False, sleep: Callable[[float], None] = time.sleep,
) -> Unreachable | None:  # fmt: skip
    """Sign a URL and read a byte by it; return why it could not be tried from here, if so. Blocks.

    If the answer or the settings name another region than the bucket did, that is tried too, and the one that works is
    used from then on. Arguments and errors are those of `check_signed_url`; `own` is that of
    `Store.sign`.
    """
    is_own = own or store.public_endpoint_url == store.endpoint_url
    regions: list[str | None] = [store.region_of(bucket)]
    refused: list[tuple[FetchRefusal, str | None]] = []
    for region in regions:  # which grows
        outcome = read_one_byte(
            store.sign(key, lifetime, bucket, region=region, own=own),
            size_bytes=size_bytes, verify=store.verify, is_own=is_own, sleep=sleep,
        )  # fmt: skip
        if not isinstance(outcome, FetchRefusal):
            if outcome is None and refused and region:
                store.sign_for(region, bucket)
            return outcome
        refused.append((outcome, region))
        if not outcome.is_passing:
            regions += [other for other in (outcome.region, store.region_name) if other and other not in regions]
    refusal, region = next((each for each in refused if not each[0].is_regional), refused[0])
    raise refusal.error(region)
