"""Reading a manifest: where it may be, what its images are relative to, what counts where a row gives nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest

from runcomfy.errors import InvalidInput, StorageError
from runcomfy.manifest import ManifestFormat, read_manifest, standalone_row, write_manifest
from runcomfy.manifest.location import MAX_MANIFEST_BYTES
from runcomfy.models import IMAGE_TO_VIDEO, TEXT_TO_VIDEO
from runcomfy.sandbox.objectstore import ObjectStore
from runcomfy.storage.store import Store
from tests.runcomfy.manifest.making import NOT_ASKED, csv_text, jsonl_text, problems, read_text


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_manifest_is_read_from_s3(store: Store, object_store: ObjectStore, kind: ManifestFormat) -> None:
    """From any bucket that the credentials open, whatever is in its key."""
    key = store.key(f"batches/clips, mai?#.v1.{kind}")
    sources = [{"prompt": f"Rain {number}", "seed": number} for number in range(100)]
    store.put(key, write_manifest([(row, "") for row in sources], ("prompt", "seed"), kind), content_type="text/plain")
    other = Store("images", session=object_store.session(), endpoint_url=object_store.endpoint_url)

    manifest = read_manifest(f"s3://videos/{key}", other)

    assert (manifest.uri, manifest.format, manifest.bad) == (f"s3://videos/{key}", kind, ())
    assert [(row.order.prompt, row.order.settings) for row in manifest.rows] == [
        (row["prompt"], {"seed": row["seed"]}) for row in sources
    ]


def test_an_image_of_an_s3_manifest_is_relative_to_it(store: Store) -> None:
    """A relative name is a key below the manifest's own folder; what is complete stays as it is."""
    images = {
        "photo.jpg": f"s3://videos/{store.prefix}mai/photo.jpg",
        "./a//b c.jpg": f"s3://videos/{store.prefix}mai/a//b c.jpg",
        "../what?#.jpg": f"s3://videos/{store.prefix}what?#.jpg",
        "s3://images/x.jpg": "s3://images/x.jpg",
        "HTTPS://example.com/x.jpg?a=b": "HTTPS://example.com/x.jpg?a=b",
    }
    key = store.key("mai/clips.jsonl")
    rows = [{"prompt": "Rain", "image": image} for image in images]
    store.put(key, jsonl_text(rows).encode(), content_type="text/plain")

    manifest = read_manifest(f"s3://videos/{key}", store)

    assert manifest.bad == ()
    assert [row.order.image for row in manifest.rows] == list(images.values())
    assert [row.source["image"] for row in manifest.rows] == list(images)


@pytest.mark.parametrize(
    "image", ["/photos/a.jpg", "~/a.jpg", "file:///photos/a.jpg", r"C:\photos\a.jpg", "../" * 9 + "a"]
)
def test_a_file_of_one_machine_is_refused_in_an_s3_manifest(store: Store, image: str) -> None:
    """Workers elsewhere do not have it; and nothing is above the bucket."""
    key = store.key("clips.jsonl")
    store.put(key, jsonl_text([{"prompt": "Rain", "image": image}]).encode(), content_type="text/plain")

    found = problems(read_manifest(f"s3://videos/{key}", store))

    assert found[1].startswith(
        "image: this leads out of the bucket" if ".." in image else "image: this is a file of one machine"
    )


def test_an_image_of_a_local_manifest_is_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the run was started; what is complete stays as it is."""
    images = {
        "photo.jpg": f"{tmp_path}/mai/photo.jpg",
        "a/b: c.jpg": f"{tmp_path}/mai/a/b: c.jpg",
        "../x.jpg": f"{tmp_path}/mai/../x.jpg",
        "/photos/x.jpg": "/photos/x.jpg",
        "~/x.jpg": "~/x.jpg",
        "file:///photos/y.jpg": "file:///photos/y.jpg",
        "https://example.com/x.jpg": "https://example.com/x.jpg",
        "s3://images/x.jpg": "s3://images/x.jpg",
    }
    (tmp_path / "mai").mkdir()
    (tmp_path / "mai/clips.csv").write_text(csv_text([{"image": image, "prompt": "Rain"} for image in images]))
    monkeypatch.chdir(tmp_path)

    for name in ("mai/clips.csv", f"{tmp_path}/mai/clips.csv"):
        manifest = read_manifest(name, NOT_ASKED)

        assert [row.order.image for row in manifest.rows] == list(images.values())
        assert manifest.uri == name


@pytest.mark.parametrize(
    "image", ["ftp://example.com/a.jpg", "gs://bucket/a.jpg", "data:image/png;base64,iVBORw0KGgo="]
)
def test_an_image_of_an_unknown_scheme_is_refused(tmp_path: Path, image: str) -> None:
    """The error names the scheme, and not the rest of the address."""
    (found,) = problems(read_text(tmp_path, "m.jsonl", jsonl_text([{"prompt": "Rain", "image": image}]))).values()

    kind = image.partition(":")[0]
    assert found == f"image: an image cannot be read from {kind}:; name a path, https://… or s3://bucket/key"


def test_defaults_count_where_a_row_gives_nothing(tmp_path: Path) -> None:
    """A default image is taken as given, not relative to the manifest; a row's own value comes first."""
    rows: list[dict[str, Any]] = [{"prompt": "Rain", "seed": 1}, {"prompt": "", "image": "b.png"}]

    manifest = read_text(
        tmp_path, "m.csv", csv_text(rows), defaults={"image": "a.png", "prompt": "Snow", "seed": 7, "resolution": None}
    )

    assert [(row.order.image, row.order.prompt, row.order.settings) for row in manifest.rows] == [
        ("a.png", "Rain", {"seed": 1}),
        (f"{tmp_path}/b.png", "Snow", {"seed": 7}),
    ]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_failed_row_is_the_same_generation_elsewhere_and_without_the_defaults(
    tmp_path: Path, store: Store, kind: ManifestFormat
) -> None:
    """In another folder and with nothing set for all, it must not become another generation, which is paid for."""
    sources: list[dict[str, Any]] = [
        {"prompt": "Rain", "image": "a.png"},
        {"prompt": "Snow", "model": "text-to-video", "seed": 7},
    ]
    content = write_manifest([(row, "") for row in sources], ("prompt", "image", "model", "seed"), kind)
    defaults = {"resolution": "480p", "enable_prompt_expansion": False, "variation": "night", "seed": 1}
    first = read_text(tmp_path, f"m.{kind}", content, defaults=defaults)
    staged = ["s3://videos/images/0123.png", None]

    again = [(standalone_row(row.source, row.order, image), "") for row, image in zip(first.rows, staged, strict=True)]
    key = store.key(f"again.{kind}")
    store.put(key, write_manifest(again, first.columns, kind), content_type="text/plain")
    second = read_manifest(f"s3://videos/{key}", store)

    assert second.bad == ()
    assert [row.order for row in second.rows] == [
        row.order.model_copy(update={"image": image}) for row, image in zip(first.rows, staged, strict=True)
    ]


def test_a_prompt_for_all_needs_no_column(tmp_path: Path) -> None:
    """What is the same for all rows may be a default alone."""
    manifest = read_text(tmp_path, "m.csv", "image\na.png\nb.png\n", defaults={"prompt": "Snow"})

    assert [row.order.prompt for row in manifest.rows] == ["Snow", "Snow"]


def test_an_unknown_default_is_refused(tmp_path: Path) -> None:
    """It would be paid for and ignored in every row."""
    with pytest.raises(InvalidInput, match="num_frame: there is no such field; did you mean num_frames"):
        read_text(tmp_path, "m.csv", "prompt\nRain\n", defaults={"num_frame": 81})


def test_a_forgotten_image_does_not_make_a_video_without_one(tmp_path: Path) -> None:
    """Where some rows have images, a row without one has to name its model."""
    rows = [{"image": "a.png", "prompt": "a"}, {"prompt": "b"}, {"prompt": "c", "model": "text-to-video"}]

    manifest = read_text(tmp_path, "m.csv", csv_text(rows))

    assert [row.order.model_id for row in manifest.rows] == [IMAGE_TO_VIDEO, TEXT_TO_VIDEO]
    assert problems(manifest) == {
        3: "image: it is missing, and other rows have one; name one, or text-to-video as the model"
    }
    assert read_text(tmp_path, "m.csv", csv_text([{"image": "", "prompt": "b"}])).rows[0].order.image is None


def test_the_same_generation_twice_is_an_error_of_the_later_row(tmp_path: Path) -> None:
    """Also where a default is spelt out, a model is named in full, or an image differently; a variation is not."""
    rows: list[dict[str, Any]] = [
        {"image": "a.png", "prompt": "Rain"},
        {"image": "a.png", "prompt": "Rain", "variation": "2"},
        {"image": "a.png", "prompt": "Rain", "seed": 2},
        {"image": "./a.png", "prompt": "Rain", "num_frames": 81.0},
        {"image": str(tmp_path / "a.png"), "prompt": "Rain", "model": IMAGE_TO_VIDEO},
        {"image": "b.png", "prompt": "Rain"},
    ]

    manifest = read_text(tmp_path, "m.jsonl", jsonl_text(rows))

    assert [row.line for row in manifest.rows] == [1, 2, 3, 6]
    said = (
        "variation: the same generation as line 1; give it another variation or seed for another take, or take it out"
    )
    assert problems(manifest) == {4: said, 5: said}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{folder}/none.csv", "does not exist. Check the path"),
        ("{folder}", "does not have the extension of a manifest: .csv, .tsv, .jsonl, .ndjson, "),
        ("{folder}/table.xls", "is a spreadsheet of a kind that is not read. In the program that made it, save"),
        ("{folder}/folder.csv", "is a folder. Name the manifest in it"),
        ("{folder}/large.csv", f"has {MAX_MANIFEST_BYTES + 1:,} bytes; {MAX_MANIFEST_BYTES:,} are allowed. Split it"),
        ("{folder}/\0.csv", "does not exist"),
        ("~nobody-of-this-name/a.csv", "cannot be read"),
        ("", "does not have the extension of a manifest"),
        ("https://user:pass-1@example.com/clips.csv?sig=pass-1", "A manifest is a file of this machine, or s3://"),
        ("s3://videos", "A manifest is a file of this machine, or s3://bucket/key"),
        ("s3:///clips.csv", "A manifest is a file of this machine, or s3://bucket/key"),
        ("s3://videos/clips.doc", "does not have the extension of a manifest"),
        ("s3://videos/none.csv", "does not exist, or there is no such bucket"),
        ("s3://no-such-bucket/clips.csv", "does not exist, or there is no such bucket"),
        ("s3://videos/{prefix}empty.csv", "is empty"),
    ],
)
def test_a_manifest_that_cannot_be_found_or_read_is_named(tmp_path: Path, store: Store, source: str, said: str) -> None:
    """With what to do, and without the secrets that its name may hold."""
    (tmp_path / "folder.csv").mkdir()
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(MAX_MANIFEST_BYTES + 1)
    store.put(store.key("empty.csv"), b"", content_type="text/plain")

    with pytest.raises(InvalidInput) as caught:
        read_manifest(source.format(folder=tmp_path, prefix=store.prefix), store)

    assert said in caught.value.message
    assert "pass-1" not in caught.value.message


def test_a_store_that_cannot_be_read_is_another_error(store: Store) -> None:
    """That is nothing that the manifest's author could fix."""
    refused = Store("videos", session=boto3.Session("no-such-key", "secret"), endpoint_url=store.endpoint_url)

    with pytest.raises(StorageError):
        read_manifest("s3://videos/clips.csv", refused)
