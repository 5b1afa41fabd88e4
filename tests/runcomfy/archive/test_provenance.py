from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from runcomfy.archive.provenance import Provenance
from runcomfy.values import GenerationFacts, MediaFacts, StagedImage

IMAGE = StagedImage(
    bucket="images", key="a.png", sha256="b" * 64, size_bytes=5, content_type="image/png", width=8, height=6,
    source="https://example.com/a.png", uploaded=True,
)  # fmt: skip


def provenance(**changes: Any) -> Provenance:
    facts: dict[str, Any] = {
        "model_id": "wan-ai/wan-2-1/image-to-video",
        "request_id": "r-1",
        "generation_key": "a" * 64,
        "inputs": {"seed": 7, "prompt": "Ein Fuchs 🦊", "image_url": "s3://images/a.png"},
        "image": IMAGE,
        "seed": 7,
        "submitted_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "queued_seconds": 1.5,
        "cost_usd": 0.25,
        "polls": 9,
        "flow_run": {"id": "f-1"},
        "uri": "s3://videos/v.mp4",
        "output_index": 0,
        "source_host": "x.runcomfy.net",
        "sha256": "c" * 64,
        "size_bytes": 1234,
        "content_type": "video/mp4",
        "media": MediaFacts(container="mp4", codec="h264", width=8, height=6, frames=81),
        "warnings": ("w",),
        "archived_at": datetime(2026, 1, 2, 3, 5, tzinfo=UTC),
        "archiver": "runcomfy-prefect/0",
    }
    return Provenance(**facts | changes)


def test_a_round_trip_changes_nothing() -> None:
    """What was written is what is read."""
    assert Provenance.from_json(provenance().to_json()) == provenance()


def test_the_document_is_stable_and_readable() -> None:
    """The same facts give the same bytes, indented, in UTF-8, the file's own facts first, the inputs sorted."""
    document = provenance().to_json()
    shuffled = provenance(inputs={"image_url": "s3://images/a.png", "prompt": "Ein Fuchs 🦊", "seed": 7}).to_json()

    assert document == shuffled
    assert document.decode().startswith('{\n  "schema_version": 1,\n  "uri": "s3://videos/v.mp4",\n')
    assert "Fuchs 🦊" in document.decode()
    assert list(json.loads(document)["inputs"]) == ["image_url", "prompt", "seed"]


def test_no_secret_is_stored() -> None:
    """A signed URL that got into the facts does not get into the bucket."""
    leaky = provenance(
        inputs={"image_url": "https://s3.example/a.png?X-Amz-Signature=SECRET"},
        warnings=("see https://x.example/?token=SECRET",),
        flow_run={"url": "https://u:SECRET@x.example/"},
    )

    assert b"SECRET" not in leaky.to_json()


def test_a_later_field_does_not_confuse_an_older_reader() -> None:
    """A document that a newer version wrote can still be read."""
    document = json.loads(provenance().to_json()) | {"invented_later": 1}

    assert Provenance.from_json(json.dumps(document).encode()) == provenance()


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"schema_version": 2}'])
def test_another_document_is_refused(document: bytes) -> None:
    """A document that is no provenance of this schema is rejected."""
    with pytest.raises(ValueError):
        Provenance.from_json(document)


@pytest.mark.parametrize("model", [Provenance, GenerationFacts, MediaFacts])
def test_every_field_is_described(model: type[Provenance]) -> None:
    """The document can be understood from its schema; a number says its unit in name or description."""
    undescribed = [name for name, field in model.model_fields.items() if not field.description]

    assert undescribed == []
