"""What other workers get of a row: enough to generate it, and no signed URL."""

from __future__ import annotations

from runcomfy.batch.plan import PlannedRow, rows_from_json, rows_to_json
from runcomfy.models import generation_key
from runcomfy.models.orders import read_order
from runcomfy.values import StagedImage


def test_rows_for_other_workers_hold_no_signed_url() -> None:
    """An image is named by its staged copy; the generation stays the same."""
    signed = "https://images.example.com/a.png?X-Amz-Signature=0123456789abcdef"
    staged = StagedImage(
        bucket="videos", key="images/a.png", sha256="a" * 64, size_bytes=1, content_type="image/png",
        width=1, height=1, source="https://images.example.com/a.png", uploaded=True,
    )  # fmt: skip
    order = read_order({"prompt": "waves", "image": signed, "seed": "7"})
    key = generation_key(order.inputs(staged), image_sha256=staged.sha256)
    row = PlannedRow(line=2, order=order, staged=staged, generation_key=key, source={"image": signed})

    document = rows_to_json([row])
    (read,) = rows_from_json(document)

    assert b"0123456789abcdef" not in document
    assert read.order.inputs(read.staged) == order.inputs(staged)
    assert (read.line, read.generation_key) == (2, key)
