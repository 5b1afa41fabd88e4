"""Rules of a bucket that delete the memory of what was paid for are found, on a real server."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest

from runcomfy.doctor import Mark
from runcomfy.doctor.lifecycle import MAY_EXPIRE, NEVER, lifecycle_serves
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.keys import RESERVED
from runcomfy.storage.store import Store

PAGE = (Path(__file__).parents[3] / "docs" / "retention.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def bucket(object_store: ObjectStore) -> str:
    name = f"rules-{uuid.uuid4().hex[:12]}"
    object_store.session().client("s3", endpoint_url=object_store.endpoint_url).create_bucket(Bucket=name)
    return name


def judged(object_store: ObjectStore, bucket: str, rules: list[dict[str, Any]]) -> tuple[Mark, str]:
    store = Store(bucket, "media", session=object_store.session(), endpoint_url=object_store.endpoint_url)
    if rules:
        store.client.put_bucket_lifecycle_configuration(
            Bucket=bucket,
            LifecycleConfiguration={"Rules": rules},  # type: ignore[typeddict-item]
        )
    else:
        store.client.delete_bucket_lifecycle(Bucket=bucket)
    found = lifecycle_serves(store, lambda: None)
    return found.mark, f"{found.found} {found.advice}"


def rule(start: str, days: int = 30, **more: Any) -> dict[str, Any]:
    return {"ID": "mine", "Status": "Enabled", "Filter": {"Prefix": start}, "Expiration": {"Days": days}} | more


@pytest.mark.parametrize(
    ("start", "days", "mark"),
    [
        ("", 365, Mark.BROKEN), ("media/", 365, Mark.BROKEN), ("med", 365, Mark.BROKEN), ("media/j", 30, Mark.BROKEN),
        ("media/journal/", 365, Mark.BROKEN), ("media/journal/.probe-", 1, Mark.BROKEN),
        ("media/inbox/", 30, Mark.BROKEN), ("media/catalogue/generations/", 30, Mark.BROKEN),
        ("media/quarantine/", 29, Mark.BROKEN), ("media/images/", 1, Mark.BROKEN), ("media/batches/", 2, Mark.BROKEN),
        ("media/wan-ai/", 30, Mark.WARNING), ("media/images/", 30, Mark.OK), ("media/media/", 3, Mark.OK),
        ("media/quarantine/", 30, Mark.OK), ("media/reports/", 1, Mark.OK), ("media/inbox/messages/", 1, Mark.OK),
        ("other/", 1, Mark.OK), ("media2/", 1, Mark.OK),
    ],
)  # fmt: skip
def test_what_has_to_stay_may_not_expire(
    object_store: ObjectStore, bucket: str, start: str, days: int, mark: Mark
) -> None:
    """Neither by its own folder, nor by a shorter or a longer prefix."""
    found, said = judged(object_store, bucket, [rule(start, days)])

    assert found is mark, said
    assert mark is Mark.OK or ("mine" in said and "docs/retention.md" in said)


def test_rules_that_delete_nothing_of_ours_are_fine(object_store: ObjectStore, bucket: str) -> None:
    """One that is off, one for tags that our objects have not, leftovers; and none at all."""
    leftovers = {"ID": "l", "Status": "Enabled", "Filter": {"Prefix": ""},
                 "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}  # fmt: skip

    assert judged(object_store, bucket, [])[0] is Mark.OK
    assert judged(object_store, bucket, [rule("", Status="Disabled"), leftovers])[0] is Mark.OK


def test_the_rules_of_the_page_fit_and_its_table_is_whole(object_store: ObjectStore, bucket: str) -> None:
    """They are there to be pasted; and no reserved folder is forgotten."""
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    rules = json.loads(block)["Rules"]

    assert judged(object_store, bucket, rules)[0] is Mark.OK
    for folder in (*MAY_EXPIRE, *NEVER):
        assert f"`{folder}" in PAGE
    assert {each.split("/")[0] for each in (*MAY_EXPIRE, *NEVER)} | {"models"} == RESERVED
