"""Which images are in the inbox, with which sidecars, and which versions of them are distinguished."""

from __future__ import annotations

import pytest

from runcomfy.errors import ConfigurationError, StorageError
from runcomfy.inbox.images import InboxImage, Source
from runcomfy.storage.store import Store
from tests.runcomfy.inbox.cloud import Cloud


def put(store: Store, *keys: str, body: bytes = b"x", bucket: str | None = None) -> None:
    for key in keys:
        store.client.put_object(Bucket=bucket or store.bucket, Key=key, Body=body)


def shown(images: list[InboxImage]) -> dict[str, list[str]]:
    return {image.object.key: [sidecar.key for sidecar in image.sidecars] for image in images}


def test_images_are_found_with_their_sidecars(archive: Store) -> None:
    """By the extension, in any case; a sidecar has the image's name with another extension. JSON comes first."""
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


def test_an_arrival_is_about_its_image(archive: Store) -> None:
    """An image is about itself, a sidecar about each image of its name, another object about none."""
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


def test_another_version_has_another_identity(archive: Store) -> None:
    """A changed image, and a changed or new sidecar, make another identity; listing again does not."""
    source = Source(f"s3://{archive.bucket}", archive)

    def identity() -> str:
        (image,) = source.images()
        return image.identity

    seen = []
    for key, body in (("p.jpg", b"1"), ("p.jpg", b"2"), ("p.txt", b"1"), ("p.txt", b"2"), ("p.json", b"{}")):
        put(archive, key, body=body)
        seen.append(identity())
        assert identity() == seen[-1]
    assert len(set(seen)) == len(seen)


def test_our_own_objects_are_not_arrivals(archive: Store) -> None:
    """Staged images, the journal, records and archived files of the store are left out, but not images beside them."""
    digest = "0" * 64
    ours = [
        f"images/{digest}.png", f"journal/{digest}.json", f"inbox/{digest}.json", "inbox/messages/7.json",
        "batches/b/p.png", "wan-ai/wan-2-1/image-to-video/r-0.mp4", "wan-ai/wan-2-1/image-to-video/r-0.mp4.json",
        "wan-ai/wan-2-1/image-to-video/r-0.png", "wan-ai/wan-2-1/image-to-video/r-0.mp4.jpg", "reports/latest.html",
        "wan-ai/wan-2-1/image-to-video/r-0.mp4.sheet.jpg", "quarantine/wan-ai/r-0.png", f"media/{digest}.mp4",
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

    images = Source(f"s3://{other}", archive).images()

    assert len(images) == 1010
    times = [image.object.modified_at for image in images]
    assert times == sorted(times)


@pytest.mark.parametrize("uri", ["", "bucket", "https://bucket/a", "s3://", "s3:///a", "gs://b"])
def test_another_uri_is_refused(archive: Store, uri: str) -> None:
    """The error says how one is named."""
    with pytest.raises(ConfigurationError, match="s3://bucket"):
        Source(uri, archive)


def test_a_bucket_that_does_not_exist_is_an_error(archive: Store) -> None:
    """Not an empty inbox."""
    with pytest.raises(StorageError, match="no such bucket"):
        Source("s3://there-is-no-such-bucket", archive).images()
