"""Each URL of the corpus is read or refused in its words, and every refusal of the table is a sentence for people."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from runcomfy.errors import ImageUnavailable, InvalidInput, StorageError
from runcomfy.inbox.notices import read_notice
from tests.corpus.notices import EXAMPLES as NOTICES
from tests.corpus.notices import Notice
from tests.corpus.sidecars import EXAMPLES as SIDECARS
from tests.corpus.sidecars import Sidecar, requested
from tests.corpus.table import KINDS, main, rows
from tests.corpus.urls import EXAMPLES, Url, serving, tried

RAW = re.compile(r"\b\w+Error\b|Traceback|NoneType|<class |object at 0x|\{'")
SLOW = ("images", "manifests")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.mark.parametrize(
    "example", [pytest.param(example, id=f"{number}-{example.url[:60]!a}") for number, example in enumerate(EXAMPLES)]
)
def test_a_url_leads_to_an_image_or_is_refused_in_words(example: Url, address: str) -> None:
    """What is refused is refused before anything is paid for, and says what to do."""
    if not example.words:
        tried(example, address)
        return
    with pytest.raises((InvalidInput, ImageUnavailable, StorageError)) as caught:
        tried(example, address)
    assert example.words in caught.value.message


@pytest.mark.parametrize("example", [pytest.param(example, id=example.name) for example in NOTICES])
def test_a_notice_is_read_or_refused_in_words(example: Notice) -> None:
    """What no bucket sent is refused; what it sent for another reason reports no arrival."""
    if not example.words:
        assert tuple(arrival.key for arrival in read_notice(example.body)) == example.arrivals
        return
    with pytest.raises(InvalidInput) as caught:
        read_notice(example.body)
    assert example.words in caught.value.message


@pytest.mark.parametrize("example", [pytest.param(example, id=example.name) for example in SIDECARS])
def test_a_sidecar_is_a_request_or_refused_in_words(example: Sidecar) -> None:
    """What nobody wrote as a prompt is not paid for."""
    if not example.words:
        assert requested(example).prompt
        return
    with pytest.raises(InvalidInput) as caught:
        requested(example)
    assert example.words in caught.value.message


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] if kind in SLOW else []) for kind in KINDS if kind != "stores"]
)
def test_what_is_said_is_for_people(kind: str) -> None:
    """No input ends in an exception that is not ours, or in the names of one; stores have such a test of their own."""
    said = rows(kind)

    assert [text for text in said.values() if RAW.search(text)] == []
    assert any(text.startswith("accepted") or "accepted" in text for text in said.values())
    assert any("refused" in text for text in said.values())


def test_the_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """As Markdown, a line for each input."""
    main(["notices"])

    printed = capsys.readouterr().out
    assert "## notices" in printed and "refused: The message is no JSON" in printed
