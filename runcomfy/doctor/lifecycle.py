"""Compare a bucket's lifecycle rules with what may expire; docs/retention.md says why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from runcomfy.doctor.findings import Diagnosis, broken, not_checked, ok, warning
from runcomfy.errors import StorageError
from runcomfy.storage.keys import IMAGES, MEDIA, QUARANTINE
from runcomfy.storage.s3 import storage_errors
from runcomfy.storage.store import Store

__all__ = ["MAY_EXPIRE", "NEVER", "lifecycle_serves"]

MAY_EXPIRE = {IMAGES: 3, MEDIA: 3, QUARANTINE: 30, "batches/": 7, "reports/": 1, "inbox/messages/": 1}
"""Folders below the store's prefix whose objects a rule may delete, and the fewest days after which it may."""
NEVER = ("journal/", "catalogue/", "inbox/")
"""Folders whose objects no rule may delete."""
_UNREADABLE_AT_ONCE = ("GLACIER", "DEEP_ARCHIVE")
_NO_RULES = ("NoSuchLifecycleConfiguration",)
_PAGE = "docs/retention.md has rules that fit"


def lifecycle_serves(store: Store, journal: Callable[[], Store | None]) -> Diagnosis:
    """Say whether rules of the bucket delete what has to stay. Blocks.

    Args:
        store: Where the archive is.
        journal: Returns where the journal is, if that is elsewhere.
    """
    found, rules = list[Diagnosis](), 0
    elsewhere = journal()
    places: list[tuple[Store, tuple[str, ...], dict[str, int]]] = [(store, (*NEVER, ""), MAY_EXPIRE)]
    if elsewhere is not None:
        places.append((elsewhere, ("journal/",), {}))
    for place, never, may in places:
        answer = _rules(place)
        if isinstance(answer, Diagnosis):
            return answer
        rules += len(answer)
        for rule in answer:
            found += _judged(place, rule, never, may)
    for mark in (broken, warning):
        if alike := [each for each in found if each.mark == mark("", "").mark]:
            return mark(" ".join(each.found for each in alike), alike[0].advice)
    if not rules:
        return ok("no rule: nothing expires by itself")
    return ok(f"{rules} rule{'s' if rules > 1 else ''}, and what has to stay stays")


def _rules(store: Store) -> list[Any] | Diagnosis:
    try:
        with storage_errors("read the lifecycle rules of", store.bucket, ""):
            answer: Any = store.client.get_bucket_lifecycle_configuration(Bucket=store.bucket)
    except StorageError as error:
        if error.error_code in _NO_RULES:
            return []
        if error.http_status in (403, 405, 501):
            return not_checked(f"because the bucket does not tell its rules ({error.error_code})")
        raise
    return [rule for rule in answer.get("Rules", []) if rule.get("Status") == "Enabled" and not _has_tags(rule)]


def _has_tags(rule: Any) -> bool:
    """Whether a rule is for objects with tags only: ours have none."""
    chosen = rule.get("Filter") or {}
    return bool(chosen.get("Tag") or (chosen.get("And") or {}).get("Tags"))


def _judged(store: Store, rule: Any, never: tuple[str, ...], may: dict[str, int]) -> Iterator[Diagnosis]:
    chosen = rule.get("Filter") or {}
    start = rule.get("Prefix") or chosen.get("Prefix") or (chosen.get("And") or {}).get("Prefix") or ""
    named = f"The rule {rule.get('ID') or 'without a name'}"
    expires = rule.get("Expiration") or {}
    dated = bool(expires.get("Date"))
    days = expires.get("Days")
    after = f"after {days} days" if days else "on a day"
    cold = [each for each in rule.get("Transitions") or [] if each.get("StorageClass") in _UNREADABLE_AT_ONCE]
    allowed = next((each for each in may if start.startswith(store.key(each))), None)
    hit = [store.key(each) for each in never if each and _meet(start, store.key(each))]
    if allowed is None and hit and (days or dated or cold):
        what = f"deletes objects {after}" if days or dated else f"moves objects to {cold[0]['StorageClass']}"
        yield broken(
            f"{named} {what} below {store.uri(start)}, and so of {', '.join(hit)}.",
            f"Without its journal, what was paid for is paid for again. Give the rule a prefix that may expire: "
            f"{_PAGE}.",
        )
    elif allowed is not None and days and days < may[allowed]:
        yield broken(
            f"{named} deletes what is below {store.uri(start)} {after}; it may be in use for {may[allowed]}.",
            f"Give it {may[allowed]} days at least: {_PAGE}.",
        )
    elif allowed is None and "" in never and _meet(start, store.prefix) and (days or dated):
        yield warning(
            f"{named} deletes archived files {after}, below {store.uri(start)}.",
            "If that is meant, leave it: a later run of the same inputs asks the service for the file again, which may "
            f"have forgotten it. Otherwise: {_PAGE}.",
        )


def _meet(one: str, other: str) -> bool:
    """Whether some key may begin with both."""
    return one.startswith(other) or other.startswith(one)
