"""Signed URLs among parameters: Prefect's database, its log, and what is raised of refused ones, are without them."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prefect import get_client

from blocks import MediaStore, RunComfyCredentials
from flows.batch import batch
from flows.generate import generate
from flows.image_to_video import image_to_video
from flows.inbox import inbox

SIGNED = "https://h.example/k.png?X-Amz-Signature=0123abcd0123abcd&X-Amz-Credential=AKIDEXAMPLE"
Call = Callable[[Any, Any], Awaitable[Any]]

REFUSED: dict[str, Call] = {
    "a list of inputs": lambda account, store: generate("a/b", [SIGNED], account, store),  # type: ignore[arg-type]
    "a list as model": lambda account, store: generate(["a/b", SIGNED], {"x": SIGNED}, account, store),  # type: ignore[arg-type]
    "an unknown one": lambda account, store: generate("a/b", {"x": SIGNED}, account, store, other=SIGNED),  # type: ignore[call-arg,arg-type]
    "none of the needed": lambda account, store: generate("a/b", inputs={"x": SIGNED}),  # type: ignore[call-arg,arg-type]
    "a token in the wrong place": lambda _, store: generate("a/b", {}, {"api_token": "0123abcd"}, store),  # type: ignore[arg-type]
    "an object as image": lambda account, store: image_to_video({"a": SIGNED}, "rain", account, store),  # type: ignore[arg-type]
    "a list of defaults": lambda account, store: batch("x.csv", account, store, defaults={"inputs": [SIGNED]}),  # type: ignore[arg-type]
    "another of an inbox": lambda account, store: inbox("s3://b", account, store, inputs=[SIGNED]),  # type: ignore[arg-type]
    "a batch without a file": lambda account, store: batch(
        "none.csv", account, store, defaults={"inputs": {"image_url": SIGNED}}  # type: ignore[arg-type]
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
async def test_signed_urls_among_refused_parameters_are_not_written(
    what: str,
    account: RunComfyCredentials,
    media_store: MediaStore,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)

    with pytest.raises(Exception) as caught:  # of several classes; what it says counts
        await REFUSED[what](account, media_store)

    said = capsys.readouterr()
    async with get_client() as client:
        runs = [run.model_dump(mode="json") for run in await client.read_flow_runs()]
    texts = (str(caught.value), "".join(traceback.format_exception(caught.value)), said.out, said.err, json.dumps(runs))
    assert [text for text in (caplog.text, *texts) if "0123abcd" in text or "AKIDEXAMPLE" in text] == []
