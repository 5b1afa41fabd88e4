"""The record of what was handled."""

from __future__ import annotations

import json

from runcomfy.inbox.images import InboxImage, Source
from runcomfy.inbox.ledger import Ledger
from runcomfy.storage.store import Store


def image(store: Store, name: str = "p.jpg") -> InboxImage:
    store.put(f"in/{name}", b"x", content_type="image/jpeg")
    (found,) = Source(f"s3://{store.bucket}/in", store).images_of(f"in/{name}")
    return found


def test_one_listing_returns_every_record(archive: Store) -> None:
    """Records of images, by the names of their objects; kept messages are not among them."""
    ledger, images = Ledger(archive), [image(archive, f"{number}.jpg") for number in range(3)]
    archive.put(archive.key("inbox/cat.json"), b"{}", content_type="application/json")

    assert ledger.identities() == set()
    for one in images:
        ledger.write(one, "archived", generation_key="k")
    ledger.keep_message("m", "hello", "It is no JSON.")

    assert ledger.identities() == {one.identity for one in images}


def test_the_last_record_counts(archive: Store) -> None:
    """Whatever was written before; and a record that cannot be read counts as none."""
    ledger, one = Ledger(archive), image(archive)
    assert ledger.read(one) is None

    ledger.write(one, "rejected", reason="no image, see https://h/p?X-Amz-Signature=0123456789abcdef")
    ledger.write(one, "archived", generation_key="k")

    record = ledger.read(one)
    assert record is not None
    assert (record.source, record.etag, record.outcome) == (one.uri, one.object.etag, "archived")
    assert (record.generation_key, record.reason) == ("k", None)
    archive.put(archive.key(f"inbox/{one.identity}.json"), b"{", content_type="application/json")
    assert ledger.read(one) is None


def test_a_message_is_kept_without_secrets_and_shortened(archive: Store) -> None:
    """The text of an unknown sender is kept nowhere else, and cannot choose its key."""
    secret, ledger = "https://h/p?X-Amz-Signature=0123456789abcdef", Ledger(archive)

    uri = ledger.keep_message("../../7", f"{secret} {'x' * 300_000}", "It is no JSON.")

    assert uri == f"s3://{archive.bucket}/archive/inbox/messages/------7.json"
    kept = archive.read(archive.key("inbox/messages/------7.json"), limit_bytes=65_536)
    assert b"0123456789abcdef" not in kept
    assert json.loads(kept)["reason"] == "It is no JSON."


def test_a_reason_holds_no_secret(archive: Store) -> None:
    """It may quote what a library said."""
    ledger, one = Ledger(archive), image(archive)

    ledger.write(one, "rejected", reason="GET https://h/p?X-Amz-Signature=0123456789abcdef failed")

    body = archive.read(archive.key(f"inbox/{one.identity}.json"), limit_bytes=65_536)
    assert b"0123456789abcdef" not in body and b"failed" in body
