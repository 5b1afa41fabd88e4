"""What is signed about a file: that a model made it, which one, for which request, of what."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from runcomfy.redaction import redact
from runcomfy.values import GenerationFacts

__all__ = ["LABEL", "Statement", "statement_sha256"]

LABEL = "org.prefect-runcomfy.generation"
"""The name of our assertion, as C2PA wants one that is not of the standard."""
_PART = ("model_id", "request_id", "generation_key", "inputs", "seed")
"""What of the provenance is known before a file is archived, and the same for every worker that completes it."""


class Statement(BaseModel):
    """Our assertion in a file's Content Credentials."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model_id: str
    request_id: str
    output_index: int = Field(ge=0)
    generation_key: str | None = None
    source_sha256: str = Field(description="SHA-256 of the bytes as the service sent them.")
    generation_sha256: str = Field(description="SHA-256 of what the provenance says of the generation.")

    @classmethod
    def of(cls, facts: GenerationFacts, index: int, source_sha256: str) -> Statement:
        """Return what is said of one output of a generation."""
        return cls(
            model_id=facts.model_id, request_id=facts.request_id, output_index=index,
            generation_key=facts.generation_key, source_sha256=source_sha256, generation_sha256=statement_sha256(facts),
        )  # fmt: skip


def statement_sha256(facts: GenerationFacts) -> str:
    """Return the SHA-256 of a generation's model, ids, inputs and seed, as JSON with sorted keys and without blanks.

    Args:
        facts: The facts, or a provenance, which has them.
    """
    part: dict[str, Any] = {name: getattr(facts, name) for name in _PART}
    text = json.dumps(redact(part), sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
