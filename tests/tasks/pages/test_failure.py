"""The page of a run that failed: what happened, whether something was paid for, and which command to paste."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from prefect import flow, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact, FlowRun

from blocks import MediaStore, RunComfyCredentials
from runcomfy.errors import RunComfyError
from runcomfy.models import TEXT_TO_VIDEO, TextToVideo, generation_key
from runcomfy.policy import Deadlines, Polling
from runcomfy.sandbox import Sandbox
from tasks import archive_outputs, stage_image, submit_request, wait_for_result
from tasks.pages.failure import failure_shown

QUICK = Polling(min_interval_seconds=0.05, default_interval_seconds=0.05)
SOON = Deadlines(queue_timeout_seconds=60, run_timeout_seconds=0.3)


@pytest.fixture(autouse=True)
def prefect(prefect_api: str) -> None:
    """Every test here runs on the test server."""


async def failed(store: MediaStore, body: Callable[[], Awaitable[object]]) -> tuple[Artifact, FlowRun, str]:
    """Run a body that fails as a flow, and return what its page shows, and the class of its error."""

    @flow(name="generates")
    async def generates() -> None:
        async with failure_shown(store, TEXT_TO_VIDEO):
            await body()

    state = await generates(return_state=True)
    error = await state.aresult(raise_on_failure=False)
    assert isinstance(error, RunComfyError)
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    async with get_client() as client:
        (artifact,) = await client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]), key=ArtifactFilterKey(any_=["runcomfy-failure"])
            )
        )
        return artifact, await client.read_flow_run(run_id), type(error).__name__


def generation(
    account: RunComfyCredentials, store: MediaStore, prompt: str, deadlines: Deadlines | None = None
) -> Callable[[], Awaitable[object]]:
    async def generate() -> None:
        inputs = TextToVideo(prompt=prompt)
        submission = await submit_request(inputs, account, store)
        result = await wait_for_result(submission, account, store, deadlines=deadlines, polling=QUICK)
        await archive_outputs(result, account, store, model_id=inputs.model_id, inputs=inputs, submission=submission)

    return generate


@pytest.mark.parametrize(
    ("prompt", "kind", "paid", "command"),
    [
        ("rain [sandbox: result=failed]", "GenerationFailed", "Yes, RunComfy says 0.25 USD.", None),
        ("rain [sandbox: submit=http_422]", "RequestRejected", "No.", None),
        ("rain [sandbox: submit=error_400002]", "InsufficientBalance", "No.", None),
        (
            "rain [sandbox: submit=lost_answer]",
            "UncertainSubmission",
            "Perhaps:",
            "journal release {key} --bucket {bucket}",
        ),
        (
            "rain [sandbox: run_seconds=60]",
            "RunTimeout",
            "It may be:",
            "fetch {request} --model text-to-video --bucket",
        ),
        (
            "rain [sandbox: result=no_output]",
            "NoOutput",
            "Yes,",
            "fetch {request} --model text-to-video --bucket {bucket}",
        ),
        ("rain [sandbox: status=error_400004]", "AuthenticationError", "It may be:", "fetch {request} --model"),
    ],
)
async def test_the_page_says_whether_it_was_paid_for_and_what_to_do(
    sandbox: Sandbox,
    account: RunComfyCredentials,
    media_store: MediaStore,
    prompt: str,
    kind: str,
    paid: str,
    command: str | None,
) -> None:
    """With the exact command, if there is one; and the run is found by the name of its error."""
    artifact, run, raised = await failed(
        media_store, generation(account, media_store, prompt, SOON if kind == "RunTimeout" else None)
    )

    page = str(artifact.data)
    assert raised == kind and kind in run.tags
    assert f"**Paid for?** {paid}" in page and f"Paid for? {paid}" in str(artifact.description)
    typed = re.findall(r"^prefect-runcomfy .*$", page, re.MULTILINE)
    if command is None:
        assert typed == []
    else:
        requests = [request.id for request in sandbox.books().requests]
        wanted = command.format(
            key=generation_key(TextToVideo(prompt=prompt))[:12],
            bucket=f"s3://videos/{media_store.prefix}",
            request=requests[0] if requests else "",
        )
        assert any(wanted in line for line in typed), typed
    sandbox.reset()


async def test_a_journal_elsewhere_is_named_in_the_command(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """The command finds the same journal, and files get the same names."""
    place = f"s3://images/{media_store.prefix}"
    store = media_store.model_copy(update={"journal": place, "archive_key": "videos(1)/{request_id}-{index}.{ext}"})

    artifact, _, _ = await failed(store, generation(account, store, "rain [sandbox: submit=lost_answer]"))

    assert f"--journal {place}" in str(artifact.data)
    assert "--archive-key 'videos(1)/{request_id}-{index}.{ext}'" in str(artifact.data)


async def test_what_was_wrong_with_the_input_is_shown_as_text(
    account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """A reason that quotes the input is not rendered as Markdown."""

    async def stage() -> None:
        await stage_image(f"s3://videos/{media_store.prefix}/<img src=x onerror=alert(1)>`**.png", media_store)

    artifact, _, _ = await failed(media_store, stage)

    assert "**Paid for?** No." in str(artifact.data)
    assert "<img" not in str(artifact.data).replace("\\<img", "")


async def test_a_page_that_cannot_be_made_does_not_hide_the_error(media_store: MediaStore) -> None:
    """The store cannot be read: the error of the generation is raised, and not the store's."""
    unusable = media_store.model_copy(update={"bucket": ""})
    unusable._store = None

    @flow
    async def generates() -> None:
        async with failure_shown(unusable, TEXT_TO_VIDEO):
            raise RunComfyError("It broke.")

    with pytest.raises(RunComfyError, match="It broke"):
        await generates()
