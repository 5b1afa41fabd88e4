"""Every example of the corpus is read, or refused in the words that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from runcomfy.errors import InvalidInput
from tests.corpus.manifests import EXAMPLES, Example
from tests.runcomfy.manifest.making import problems, read_text


@pytest.mark.parametrize(
    "example",
    [pytest.param(example, id=example.name, marks=[pytest.mark.slow] if example.slow else []) for example in EXAMPLES],
)
def test_an_example_is_read_or_refused_in_words(tmp_path: Path, example: Example) -> None:
    """What cannot be read is refused before anything is paid for; nothing but `InvalidInput` is raised."""
    if example.good is None:
        with pytest.raises(InvalidInput) as caught:
            read_text(tmp_path, example.name, example.data())
        assert example.words in caught.value.message
        assert caught.value.message.endswith("Nothing was paid for.")
        return
    manifest = read_text(tmp_path, example.name, example.data())
    said = "; ".join(problems(manifest).values())
    assert (len(manifest.rows), example.words in said, bool(manifest.bad)) == (
        example.good,
        True,
        bool(example.words),
    ), said
