"""Which URLs of a result are its files."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcomfy.api.outputs import given_urls
from runcomfy.api.requests import succeeded
from runcomfy.api.responses import Answer, parse_answer
from runcomfy.errors import GenerationCancelled, GenerationFailed, RunComfyError

A, B, C = "https://x.runcomfy.net/a.mp4", "https://x.runcomfy.net/b.mp4", "https://x.runcomfy.net/c.png"
STAGED = f"https://bucket.example.com/archive/images/{'5e' * 32}.png?X-Amz-Signature=5ec2e7"
OWN = f"https://x.runcomfy.net/images/{'5e' * 32}.png"
SENT = "https://pictures.example.com/wave.png?token=5ec2e7"


def answer(output: Any, *, sent: tuple[str, ...] = (), **beside: Any) -> Answer:
    """Parse a success with such an output, and inputs beside it that are never searched."""
    body = {"status": "succeeded", "output": output, "input": {"video": B}, "video": B, "url": B} | beside
    return parse_answer("r1", json.loads(json.dumps(body)), sent=given_urls(list(sent)))


@pytest.mark.parametrize(
    ("output", "urls"),
    [
        ({"video": A}, (A,)),
        ({"images": [C], "videos": [A, B], "video": A}, (A, B, C)),
        ({"audio": B, "images": [C], "video": A}, (A, C, B)),
        (A, (A,)),
        ([A, B], (A, B)),
        ({"audio": A}, (A,)),
        ({"audios": [A, B]}, (A, B)),
        ({"url": A}, (A,)),
        ({"path": A}, (A,)),
        ({"video": {"url": A, "content_type": "video/mp4", "size": 7}}, (A,)),
        ({"videos": [{"url": A}, {"path": B}]}, (A, B)),
        ([{"url": A}, {"url": A}, B], (A, B)),
        ({"video": A, "url": B}, (A,)),
        ({"video": {"url": A, "thumbnail": C}}, (A,)),
        ({"Videos": [A]}, (A,)),
        (f" {A}\n", (A,)),
        ("HTTPS://x.runcomfy.net/a.mp4", (A,)),
        (f'"{A}"', (A,)),
        (f"{A}, {B}", (A, B)),
        (f"{A}\n{B}", (A, B)),
        (json.dumps({"video": A}), (A,)),
        (json.dumps([A, B]), (A, B)),
        ("//x.runcomfy.net/a.mp4", (A,)),
        ({"videos": ["//x.runcomfy.net/a.mp4", B]}, (A, B)),
        ({"image": OWN}, (OWN,)),
        ({"video": "http://x.runcomfy.net/a.mp4"}, ("http://x.runcomfy.net/a.mp4",)),
    ],
)
def test_fields_with_the_name_of_a_file_are_found(output: Any, urls: tuple[str, ...]) -> None:
    """Known names, nested, listed, in any spelling of URL; each file once, in a stable order, and without a warning."""
    found = answer(output)

    assert (found.outputs, found.warnings) == (urls, ())
    assert "runcomfy.net" not in repr(found)


@pytest.mark.parametrize(
    ("output", "urls"),
    [
        ({"video": 7, "other": A}, (A,)),
        ({"video": {"uri": A}}, (A,)),
        ({"image": C, "video": {"uri": A}}, (A, C)),
        ({"result": {"clips": [{"mp4": A}, {"mp4": C}]}}, (A, C)),
        ([{"download": A}], (A,)),
        ("Your video is ready: " + A + ".", (A,)),
        ({"markdown": f"![]({A})"}, (A,)),
        ({"video_url": A, "status_url": B, "result_url": B, "cancel_url": B}, (A,)),
        ({"clip": A, "inputs": {"image": C}, "request": {"image_url": C}, "params": {"mask": C}}, (A,)),
        ({"clip": A, "start": B}, (A,)),
        ({"clip": A, "first_frame": STAGED}, (A,)),
        ({"clip": A, "image_url": SENT}, (A,)),
    ],
)
def test_urls_under_other_names_are_taken_with_a_warning(output: Any, urls: tuple[str, ...]) -> None:
    """Any URL in the output, except what was sent and what the service calls an input; a warning says so."""
    found = answer(output, sent=(SENT,))

    assert found.outputs == urls
    assert "not documented" in found.warnings[0]


@pytest.mark.parametrize(
    "output",
    [
        None, "", 7, {}, [], "not a url", {"video": None, "videos": []}, "https://", "https:///a.mp4", "ftp://x.y/a.mp4",
        "data:video/mp4;base64,AAAA", "//a.mp4", "// x.runcomfy.net", "s3://bucket/a.mp4", {"path": "/outputs/a.mp4"},
        {"input": {"image_url": A}}, STAGED, {"video": STAGED}, {"image": SENT, "status_url": A},
    ],
)  # fmt: skip
def test_an_output_without_a_file_is_shown(output: Any) -> None:
    """Never an input, never the service's own links; the output is kept for a person, without its secrets."""
    found = answer(output, sent=(SENT,))

    assert found.outputs == ()
    assert (found.output is None) == (output is None)
    assert "5ec2e7" not in str(found.output)


def test_an_error_beside_a_success_is_a_warning() -> None:
    """The user of the file is warned; a failure keeps every error field."""
    odd = answer({"video": A}, error_code=500123, error_message="late")
    assert odd.outputs == (A,) and "late" in odd.warnings[0]

    failed = parse_answer("r1", {"status": "failed", "error_code": 1, "message": f"see {A}?Signature=5ec2e7"})
    assert failed.error == {"error_code": 1, "message": f"see {A}?[redacted]"}
    assert parse_answer("r1", {"status": "failed", "error": {"why": [1]}}).error == {"why": [1]}


@pytest.mark.parametrize(("word", "error"), [("failed", GenerationFailed), ("cancelled", GenerationCancelled)])
def test_a_file_of_a_request_that_did_not_succeed_is_shown(word: str, error: type[RunComfyError]) -> None:
    """The status decides, and a person may look at the output, without its signature."""
    with pytest.raises(error, match=r'"video": "https://x\.runcomfy\.net/a\.mp4.*not archived') as caught:
        succeeded(answer({"video": f"{A}?Signature=5ec2e7"}, status=word))
    assert "5ec2e7" not in f"{caught.value}"

    with pytest.raises(error) as caught:
        succeeded(answer({"video": None}, status=word))
    assert "output" not in str(caught.value)


_LEAVES = st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([A, B, f" {C} ", STAGED])
_OUTPUTS = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["video", "images", "url", "x", "input", "meta"]) | st.text(), inner, max_size=4
        )
    ),
    max_leaves=20,
)


@given(_OUTPUTS)
def test_whatever_the_output_is_only_its_own_urls_are_taken(output: Any) -> None:
    """It never fails, takes nothing twice, and is deterministic."""
    found = answer(output)

    assert set(found.outputs) <= {A, B, C} or any("http" in text for text in _texts(output))
    assert len(set(found.outputs)) == len(found.outputs)
    assert found == answer(output)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in _texts(part)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value.lower()] if isinstance(value, str) and value.strip() not in (A, B, C, STAGED) else []


def test_an_extremely_nested_output_is_read() -> None:
    """No answer may break the parser."""
    deep: Any = A
    for _ in range(300):
        deep = {"x": [deep]}

    assert answer(deep).outputs == ()
