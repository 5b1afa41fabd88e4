"""Which pictures stand in the inbox, with which sidecars, and which versions of them are told apart."""

from __future__ import annotations

import pytest

from runcomfy.errors import ConfigurationError, StorageError
from runcomfy.inbox.images import InboxImage, Source
from runcomfy.storage.store import Store
from tests.runcomfy.inbox.cloud import Cloud


def put(store: Store, *keys: str, body: bytes = b"x", bucket: str | None = None) -> None:
    for key in keys:
        store.client.put_object(Bucket=bucket or store.bucket, Key=key, Body=body)


def shown(pictures: list[InboxImage]) -> dict[str, list[str]]:
    return {picture.object.key: [sidecar.key for sidecar in picture.sidecars] for picture in pictures}


def test_pictures_are_found_with_their_sidecars(archive: Store) -> None:
    """By the extension, in any case; a sidecar has the picture's name with another extension. JSON comes first."""
    put(
        archive, "in/a.jpg", "in/a.txt", "in/a.json", "in/b.b.PNG", "in/b.b.txt", "in/b.json", "in/d.e/f", "in/notes.md"
    )
    put(archive, "in/c.webp", "in/c.jpeg", "in/c.txt", "in/g/", "out/z.jpg", "inner.jpg")

    source = Source(f"s3://{archive.bucket}/in", archive)

    assert shown(source.images()) == {
        "in/a.jpg": ["in/a.json", "in/a.txt"],
        "in/b.b.PNG": ["in/b.b.txt"],
        "in/c.jpeg": ["in/c.txt"],
        "in/c.webp": ["in/c.txt"],
    }


def test_an_arrival_is_that_of_its_picture(archive: Store) -> None:
    """A picture is itself; a sidecar is that of each picture of its name; the rest is nothing."""
    put(
        archive,
        "in/a.jpg",
        "in/a.txt",
        "in/ab.jpg",
        "in/c.webp",
        "in/c.png",
        "in/c.json",
        "in/lonely.txt",
        "in/a.b.jpg",
    )
    source = Source(f"s3://{archive.bucket}/in/", archive)

    assert shown(source.images_of("in/a.jpg")) == {"in/a.jpg": ["in/a.txt"]}
    assert shown(source.images_of("in/a.txt")) == {"in/a.jpg": ["in/a.txt"]}
    assert shown(source.images_of("in/c.json")) == {"in/c.png": ["in/c.json"], "in/c.webp": ["in/c.json"]}
    assert shown(source.images_of("in/c.png")) == {"in/c.png": ["in/c.json"]}
    for key in ("in/lonely.txt", "in/gone.jpg", "in/a.mp4", "in/a", "a.jpg/x", ""):
        assert source.images_of(key) == []


def test_another_version_is_told_apart(archive: Store) -> None:
    """A changed picture, a changed or new sidecar, and another bucket make another identity; looking again does not."""
    source = Source(f"s3://{archive.bucket}", archive)

    def identity() -> str:
        (picture,) = source.images()
        return picture.identity

    seen = []
    for key, body in (("p.jpg", b"1"), ("p.jpg", b"2"), ("p.txt", b"1"), ("p.txt", b"2"), ("p.json", b"{}")):
        put(archive, key, body=body)
        seen.append(identity())
        assert identity() == seen[-1]
    assert len(set(seen)) == len(seen)


def test_what_we_keep_ourselves_is_no_arrival(archive: Store) -> None:
    """Staged pictures, the journal, records and archived files of the store, but not pictures that lie near them."""
    digest = "0" * 64
    ours = [
        f"images/{digest}.png", f"journal/{digest}.json", f"inbox/{digest}.json", "inbox/messages/7.json",
        "batches/b/p.png", "wan-ai/wan-2-1/image-to-video/r-0.mp4", "wan-ai/wan-2-1/image-to-video/r-0.mp4.json",
        "wan-ai/wan-2-1/image-to-video/r-0.png", "wan-ai/wan-2-1/image-to-video/r-0.mp4.jpg", "reports/latest.html",
    ]  # fmt: skip
    theirs = ["images/holiday.png", "inbox/cat.png", "inbox/cat.json", "wan-ai/cat.png"]
    source = Source(f"s3://{archive.bucket}", archive)

    assert [name for name in ours if source.holds(archive.bucket, archive.key(name))] == []
    assert [name for name in theirs if not source.holds(archive.bucket, archive.key(name))] == []
    assert all(source.holds(archive.bucket, name) for name in ours), "outside of the store's prefix they are not ours"
    put(archive, *map(archive.key, ours + theirs))
    assert len(source.images()) == 3
    assert source.images_of(archive.key(ours[0])) == []


def test_another_bucket_and_another_folder_are_elsewhere(archive: Store, cloud: Cloud) -> None:
    """A folder ends with its slash."""
    source = Source(f"s3://{archive.bucket}/in", archive)

    assert source.uri == f"s3://{archive.bucket}/in/"
    assert not source.holds(archive.bucket, "inner/a.jpg")
    assert not source.holds("another", "in/a.jpg")
    assert source.holds(archive.bucket, "in/deep/a.jpg")


def test_thousands_are_found_the_oldest_first(archive: Store, cloud: Cloud) -> None:
    """More than one page of a listing, in a bucket that is not the store's."""
    other = cloud.bucket()
    put(archive, *(f"{number:04}.jpg" for number in range(1010)), bucket=other)

    pictures = Source(f"s3://{other}", archive).images()

    assert len(pictures) == 1010
    times = [picture.object.modified_at for picture in pictures]
    assert times == sorted(times)


@pytest.mark.parametrize("uri", ["", "bucket", "https://bucket/a", "s3://", "s3:///a", "gs://b"])
def test_what_is_no_inbox_is_refused(archive: Store, uri: str) -> None:
    """The error says how one is named."""
    with pytest.raises(ConfigurationError, match="s3://bucket"):
        Source(uri, archive)


def test_a_bucket_that_is_not_there_is_an_error(archive: Store) -> None:
    """Not an empty inbox."""
    with pytest.raises(StorageError, match="no such bucket"):
        Source("s3://there-is-no-such-bucket", archive).images()
