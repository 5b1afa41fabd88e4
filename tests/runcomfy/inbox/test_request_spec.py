"""The request spec of an image: sidecar over metadata over defaults, field by field."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from runcomfy.errors import InvalidInput
from runcomfy.inbox.images import Source
from runcomfy.inbox.request_spec import read_request_spec
from runcomfy.models.orders import Order
from runcomfy.storage.store import Store

DEFAULTS: dict[str, Any] = {"prompt": "", "resolution": "720p", "seed": 1}


def request_spec(
    store: Store,
    *,
    metadata: dict[str, str] | None = None,
    json: str | bytes = "",
    txt: str | bytes = "",
    **defaults: Any,
) -> Order | None:
    store.put("in/p.png", b"image", content_type="image/png", metadata=metadata or {})
    for extension, text in (("json", json), ("txt", txt)):
        if text:
            store.put(
                f"in/p.{extension}", text if isinstance(text, bytes) else text.encode(), content_type="text/plain"
            )
    (image,) = Source(f"s3://{store.bucket}/in", store).images()
    return read_request_spec(image, store, DEFAULTS | defaults)


def test_each_field_comes_from_the_source_with_precedence(archive: Store) -> None:
    """A sidecar may leave fields out."""
    order = request_spec(
        archive,
        metadata={"prompt": "fog", "seed": "5", "num-frames": "90"},
        json='{"prompt": "snow", "frames_per_second": 24}',
        txt="rain",
        enable_safety_checker=True,
    )

    assert order is not None
    assert (order.prompt, order.image) == ("snow", f"s3://{archive.bucket}/in/p.png")
    assert order.settings == {
        "resolution": "720p", "seed": 5, "num_frames": 90, "frames_per_second": 24, "enable_safety_checker": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "prompt"),
    [
        ({"txt": "rain\n", "metadata": {"prompt": "fog"}, "prompt": "sun"}, "rain"),
        ({"json": '{"seed": 3}', "txt": "rain"}, "rain"),
        ({"json": '{"prompt": ""}', "metadata": {"prompt": "fog"}}, "fog"),
        ({"metadata": {"Prompt": "fog"}, "prompt": "sun"}, "fog"),
        ({"txt": "Schnee fällt\n".encode("utf-16")}, "Schnee fällt"),
        ({"json": b"\xef\xbb\xbf" * 2 + b'{"prompt": "rain"}'}, "rain"),
        ({"prompt": "sun"}, "sun"),
        ({"txt": b"\xef\xbb\xbfSchn\xc3\xa9e"}, "Schnée"),
        ({"json": b'\xef\xbb\xbf{"prompt": "snow"}'}, "snow"),
    ],
)
def test_the_prompt_is_the_first_that_there_is(archive: Store, given: dict[str, Any], prompt: str) -> None:
    """An empty one is none; a byte order mark is nothing."""
    order = request_spec(archive, **given)

    assert order is not None and order.prompt == prompt


@pytest.mark.parametrize("given", [{}, {"json": '{"seed": 3}'}, {"txt": " \n"}, {"metadata": {"seed": "3"}}])
def test_without_any_prompt_it_waits(archive: Store, given: dict[str, Any]) -> None:
    """That is no error: a sidecar may come later."""
    assert request_spec(archive, **given) is None


@pytest.mark.parametrize(
    "encoded",
    [
        "=?UTF-8?B?" + base64.b64encode("Schnée fällt".encode()).decode() + "?=",
        "=?UTF-8?Q?Schn=C3=A9e_f=C3=A4llt?=",
        "=?utf-8?q?Schn=C3=A9e?= =?utf-8?q?_f=C3=A4llt?=",
    ],
)
def test_metadata_is_decoded(archive: Store, encoded: str) -> None:
    """S3 returns non-ASCII text in the encoding of RFC 2047, as mail does."""
    order = request_spec(archive, metadata={"prompt": encoded})

    assert order is not None and order.prompt == "Schnée fällt"


def test_metadata_of_other_programs_is_ignored(archive: Store) -> None:
    """Only fields of a request spec are read from it, and no model: cameras have one too."""
    order = request_spec(
        archive, metadata={"prompt": "fog", "model": "X100", "image": "a.png", "uploaded-by": "me", "mtime": "1"}
    )

    assert order is not None and order.model_id == "wan-ai/wan-2-1/image-to-video"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"json": "{"}, "not JSON"),
        ({"json": "[" * 60_000}, "nested too deeply"),
        ({"json": "[]"}, "not a JSON object"),
        ({"json": '{"prompt": {"text": "snow"}}'}, "prompt is not a text"),
        ({"json": '{"prompt": "snow", "image": "s3://b/k.png"}'}, "leave that out"),
        ({"json": '{"prompt": "snow", "sed": 7}'}, "did you mean seed"),
        ({"json": '{"prompt": "snow", "seed": "seven"}'}, "seed"),
        ({"json": '{"prompt": "snow", "num_frames": 20}'}, "num_frames"),
        ({"json": '{"prompt": "snow", "model": "text-to-video"}'}, "takes none"),
        ({"json": b'{"prompt": "\xff"}'}, "UTF-8"),
        ({"txt": b"\xff\xfes\0n"}, "UTF-8"),
        ({"json": '{"prompt": "snow", "seed": ' + "1" * 5000 + "}"}, "a number has more than 300 digits"),
        ({"txt": "x" * 65_537}, "65,536"),
        ({"txt": "snow", "metadata": {"seed": "seven"}}, "seed"),
        ({"metadata": {"prompt": "=?UTF-8?B?/w==?="}}, "x-amz-meta-prompt"),
        ({"metadata": {"prompt": "=?x-none?B?AAAA?="}}, "x-amz-meta-prompt"),
    ],
)  # fmt: skip
def test_an_invalid_request_is_refused(archive: Store, given: dict[str, Any], says: str) -> None:
    """Before anything is paid for, with what is wrong."""
    with pytest.raises(InvalidInput, match=says):
        request_spec(archive, **given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"txt": "\u200b"}, "prompt: it says nothing"), ({"txt": "\ufeff\ufeff\n"}, "prompt: it says nothing"),
        ({"json": '{"prompt": "\\u00ad"}'}, "prompt: it says nothing"), ({"txt": "rain\x07"},
        "prompt: it holds the control character"),
        ({"json": '{"prompt": "a\\u0000b"}'}, "prompt: it holds the NUL"), ({"prompt": "\u2060"},
        "prompt: it says nothing"),
        ({"json": '{"prompt": "rain", "seed": 1.23457E+11}'}, "seed: .*digits may be lost"),
        ({"json": '{"prompt": "rain", "seed": 9007199254740992.0}'}, "seed: it may have been rounded"),
        ({"txt": "rain", "metadata": {"seed": "1.23457E+11"}}, "seed: .*digits may be lost"),
        ({"txt": "rain", "metadata": {"num-frames": "1,000"}}, "num_frames: .*digits only"),
    ],
)  # fmt: skip
def test_a_placeholder_prompt_is_refused(archive: Store, given: dict[str, Any], said: str) -> None:
    """Wherever it comes from: a sidecar, the metadata, the defaults."""
    with pytest.raises(InvalidInput, match=said):
        request_spec(archive, **given)
