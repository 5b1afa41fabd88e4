"""Errors and the texts in them."""

import inspect
import logging
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcomfy import errors
from runcomfy.redaction import RedactingFilter, redact, strip_query

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.RunComfyError)]
SIGNED = "https://bucket.s3.eu-central-1.amazonaws.com/a.png?X-Amz-Credential=AKIA%2F2026&X-Amz-Signature=deadbeef01"


@pytest.mark.parametrize("kind", KINDS)
def test_errors_survive_pickling_with_their_facts(kind: type[errors.RunComfyError]) -> None:
    """An error that crosses a process boundary keeps its type, its message and its facts."""
    error = pickle.loads(pickle.dumps(kind("It broke.", request_id="r1", http_status=500, details={"a": [1]})))

    assert type(error) is kind
    assert (error.message, error.request_id, error.http_status, error.details) == ("It broke.", "r1", 500, {"a": [1]})
    assert error.facts == {"http_status": 500, "details": {"a": [1]}, "request_id": "r1"}
    assert str(error) == "It broke. (request_id=r1, http_status=500)"


def test_a_misspelt_fact_is_refused_where_it_is_read_and_where_it_is_given() -> None:
    """Facts are declared: a typo is an error, and never reads as unknown."""
    error = errors.RunComfyError("It broke.", cost_usd=0.5)

    assert error.cost_usd == 0.5
    with pytest.raises(AttributeError, match="cost_usdd"):
        error.cost_usdd  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(TypeError, match="cost_usdd"):
        errors.GenerationFailed("It broke.", cost_usdd=0.5)  # type: ignore[call-arg]


def test_an_error_that_another_version_pickled_is_read_with_the_facts_that_both_know() -> None:
    """Prefect's stored results outlive an upgrade, and so were errors pickled before their facts were fields."""
    pickled = (
        b"cruncomfy.errors\n_rebuild\n(cruncomfy.errors\nGenerationFailed\nVIt broke.\n"
        b"(Vrequest_id\nVr1\nVunknown\nVx\ndtR."
    )
    error = pickle.loads(pickled)

    assert type(error) is errors.GenerationFailed
    assert (error.message, error.facts) == ("It broke.", {"request_id": "r1"})


def test_facts_that_are_given_are_redacted_too() -> None:
    """Every text goes through the redaction, in whatever field."""
    error = errors.UncertainSubmission("It broke.", details={"deep": [SIGNED]}, created_at=SIGNED, error_code=SIGNED)

    assert "deadbeef01" not in f"{error} {error!r} {vars(error)}"


def test_the_tree_at_the_top_of_the_module_is_the_tree_of_the_classes() -> None:
    """The drawing names every class, below its parent."""
    drawing = [line for line in (errors.__doc__ or "").splitlines() if "──" in line or line.strip() == "RunComfyError"]
    path: list[str] = []
    for line in drawing:
        name = line.replace("│", " ").replace("├── ", "    ").replace("└── ", "    ")
        depth = (len(name) - len(name.lstrip())) // 4 - 1
        path[depth:] = [name.split()[0]]
        parent = getattr(errors, path[-2]) if depth else Exception
        assert getattr(errors, path[-1]).__bases__ == (parent,), path
    assert len(drawing) == len(KINDS)


@pytest.mark.parametrize(
    "text",
    [
        f"GET {SIGNED} failed",
        f"Max retries exceeded with url: {SIGNED.partition('.com')[2]} (Caused by x)",
        f'"GET {SIGNED.partition(".com")[2]} HTTP/1.1" 403 None',
        f"['{SIGNED}']",
        f"{{'url': '{SIGNED}'}}",
        "Authorization: Bearer deadbeef01",
        "headers={'Authorization': b'AWS4-HMAC-SHA256 Credential=AKIA, SignedHeaders=host, Signature=deadbeef01'}",
        "Signature:\ndeadbeef01",
        "{'X-Amz-Security-Token': 'deadbeef01'}",
        "https://user:deadbeef01@example.com/a",
        "https://example.com/a#deadbeef01",
        r"https:\/\/b.example.com\/x.png?sig=deadbeef01",
        r"https://b.example.com/x.png?sv=1\u0026sig=deadbeef01",
        "sig=deadbeef01",
    ],
)
def test_secrets_are_cut_out_of_texts(text: str) -> None:
    """Signed queries, tokens, passwords and signatures are removed, wherever they are."""
    assert "deadbeef01" not in redact(text)
    assert "deadbeef01" not in str(errors.DownloadError(text, details={"deep": [text]}).facts)


def test_everything_else_is_left() -> None:
    """The host and the path of a URL stay readable, and so does all other text."""
    assert redact(f"GET {SIGNED} failed") == f"GET {strip_query(SIGNED)}?[redacted] failed"
    for prose in ("Is it running? Look: 2 of 3 (why?)", "A standard bearer walks home", "her signature: bold, red"):
        assert redact(prose) == prose
    assert redact({"a": [1, None, 2.5, True]}) == {"a": [1, None, 2.5, True]}


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_redaction_never_fails_and_is_stable(value: object) -> None:
    """Any JSON goes through; a second time changes nothing."""
    assert redact(redact(value)) == redact(value)


def test_long_secrets_are_cut_to_their_end_and_long_texts_are_shortened() -> None:
    """A session token of thousands of characters is removed, and an endless text from outside is shortened."""
    tail = "0123456789abcdef" * 300

    assert redact(f"see https://b.example.com/x?X-Amz-Security-Token={tail} now") == (
        "see https://b.example.com/x?[redacted] now"
    )
    assert "abcdef" not in redact(f"GET /x?X-Amz-Signature={tail} HTTP/1.1")
    assert "abcdef" not in redact(f"token={tail}")
    assert len(redact("a." * 10**6)) < 20_000


def test_a_log_record_is_redacted_after_its_arguments_are_in_it() -> None:
    """The secret is cut from the message and from an argument."""
    record = logging.LogRecord("x", logging.DEBUG, __file__, 1, "%s %d", (SIGNED, 403), None)

    assert RedactingFilter().filter(record)
    assert record.getMessage() == f"{strip_query(SIGNED)}?[redacted] 403"
