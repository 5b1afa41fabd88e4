"""What stopped a shard of a batch is known to the others, whatever kind of stop it is."""

from __future__ import annotations

import pytest

from runcomfy.batch.halt import Halt
from runcomfy.batch.shard import Shard
from runcomfy.errors import AuthenticationError, CommonCause, InsufficientBalance, RunComfyError
from runcomfy.storage.store import Store


@pytest.mark.parametrize(
    "error",
    [
        CommonCause("20 in a row.", error_code="301", cause_type="ArchiveError"),
        CommonCause("20 in a row.", cause_type="GenerationFailed"),
        AuthenticationError("No.", error_code=400004),
        InsufficientBalance("None left."),
    ],
)
def test_shards_read_what_stopped_another(store: Store, error: RunComfyError) -> None:
    """They get the same error, by class, code and text; shards of another batch get none."""
    keys = [Shard(number=n, rows_key=f"b/{folder}/{n}.rows", outcomes_key="o").halt_key for folder, n in
            (("x", 1), ("x", 2), ("y", 1))]  # fmt: skip
    one, two, other = (Halt(store, store.key(key)) for key in keys)
    assert two.read() is None
    one.publish(error)

    published = two.read()
    assert published is not None
    assert (type(published), published.message, published.facts) == (type(error), error.message, error.facts)
    assert other.read() is None
