"""What the flows that make one video share."""

from __future__ import annotations

from pydantic import RootModel, model_serializer
from slugify import slugify

from runcomfy.redaction import redact
from tasks.naming import fact, flow_name

__all__ = ["ImageSource", "run_name"]


class ImageSource(RootModel[str]):
    """A local path, an `https://` URL, or an `s3://` URI.

    What Prefect stores of it has no query, so that a signed URL does not end up in its database. (Parameters that are
    sent to a deployment are stored by Prefect's server before this code sees them: use `s3://` there.)
    """

    def __repr__(self) -> str:
        return f"ImageSource({redact(self.root)!r})"

    @model_serializer
    def _without_query(self) -> str:
        return str(redact(self.root))


run_name = flow_name(
    lambda given: slugify(fact(given["prompt"]), max_length=48, word_boundary=True), otherwise="generation"
)
"""Names a flow run after its prompt."""
