"""Whatever the service answers, in any shape: an answer or an error of ours, in bounded memory."""

from __future__ import annotations

import asyncio
import os
import random
import tracemalloc

import httpx
import pytest

from runcomfy.api.client import RunComfyClient
from runcomfy.api.refusals import classify_submission, error_code, retry_after_seconds
from runcomfy.errors import RunComfyError
from tests.corpus.answers import CALLS, STATUSES, answering, body_of

COUNT = int(os.environ.get("FUZZ_COUNT", "3000"))
"""Answers to each call; ten thousand are read by hand: `python -m tests.corpus.fuzzing answer 10000`."""
GROWTH_BYTES = 64 * 1024 * 1024


@pytest.mark.parametrize(
    ("written", "code"),
    [("\u00b2", "\u00b2"), ("9" * 5000, "9" * 100), (" 400002 ", 400002), (7, 7), ("x" * 500, "x" * 100)],
)
def test_a_code_is_a_number_only_if_it_is_written_as_one(written: object, code: object) -> None:
    """Neither other scripts' digits nor thousands of them end the reading of an answer that may have been paid for."""
    assert error_code({"error_code": written}) == code
    assert classify_submission(httpx.Response(400, json={"error_code": written, "error_message": "no"}))


def test_a_wait_that_is_asked_for_is_finite() -> None:
    """It is recorded and counted with."""
    assert retry_after_seconds(httpx.Response(429, headers={"Retry-After": "9" * 400})) == 31 * 24 * 3600


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_any_answer_to_a_call(name: str) -> None:
    async def ask() -> int:
        answered = 0
        async with RunComfyClient("sandbox-token", transport=answering(random.Random(name))) as client:
            for _ in range(COUNT):
                try:
                    await CALLS[name](client)
                except RunComfyError as error:
                    assert str(error)
                else:
                    answered += 1
        return answered

    tracemalloc.start()
    try:
        assert 0 < asyncio.run(ask()) < COUNT
        assert tracemalloc.get_traced_memory()[0] < GROWTH_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_any_answer_to_a_submission() -> None:
    """A request's id, a refusal, or uncertainty; never an exception."""
    dice, found = random.Random("submission"), set[str]()
    for _ in range(COUNT):
        response = httpx.Response(
            dice.choice(STATUSES), content=body_of(dice), request=httpx.Request("POST", "https://x")
        )
        found.add(type(classify_submission(response)).__name__)

    assert {"str", "UncertainSubmission"} < found
