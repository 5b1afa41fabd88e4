"""The flows from end to end: what they make, what Prefect shows, and that nothing is paid for in vain."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import av
import pytest
from prefect import flow, get_client
from prefect.artifacts import acreate_progress_artifact
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import Artifact, StateType
from prefect.exceptions import ParameterTypeError
from pydantic import SecretStr, ValidationError

from blocks import MediaStore, RunComfyCredentials
from flows.fetch_request import fetch_request
from flows.image_to_video import image_to_video
from flows.parameters import ImageSource
from flows.text_to_video import text_to_video
from runcomfy.errors import (
    AuthenticationError,
    ConfigurationError,
    GenerationFailed,
    InsufficientBalance,
    InvalidInput,
    NotFinished,
    QueueTimeout,
    RunTimeout,
    StorageError,
    UncertainSubmission,
)
from runcomfy.journal import EntryState, GenerationSpec
from runcomfy.models import (
    IMAGE_TO_VIDEO,
    TEXT_TO_VIDEO,
    ImageToVideo,
    ImageToVideoSettings,
    TextToVideo,
    TextToVideoSettings,
    earlier_key,
    workload_of,
)
from runcomfy.policy import Deadlines, Polling
from runcomfy.polling.forecast import RunTimes
from runcomfy.sandbox import Sandbox
from runcomfy.values import Generation
from tasks import cancel_request, submit_request
from tasks.pages.artifacts import show
from tests.runcomfy.storage.test_signed_urls import Answer, Imitation, error, serving

PICTURE = Path(__file__).parents[2] / "deployments" / "demo.jpg"
QUICK = Polling(min_interval_seconds=0.05, default_interval_seconds=0.05)


def objects(store: MediaStore) -> list[str]:
    client = store.get_store().client
    found = client.list_objects_v2(Bucket="videos", Prefix=store.get_store().prefix).get("Contents", [])
    names = (str(entry["Key"]).removeprefix(store.get_store().prefix) for entry in found)
    return sorted(name for name in names if not name.startswith("journal/"))


async def names(store: MediaStore) -> AsyncIterator[str]:
    """The generations that the journal knows."""
    for key in await store.get_journal().modified():
        yield key


async def artifacts(flow_run_id: UUID | None) -> list[Artifact]:
    assert flow_run_id is not None
    async with get_client() as client:
        return await client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        )


async def test_an_image_and_a_prompt_become_one_archived_video(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """The video in the bucket plays, has what was asked for, and its provenance says how it was made."""
    settings = ImageToVideoSettings(num_frames=90, frames_per_second=24, resolution="480p", seed=7)

    generation = await image_to_video(
        ImageSource(str(PICTURE)), "a boat", account, media_store, settings=settings, polling=QUICK
    )

    assert isinstance(generation, Generation)
    (video,) = generation.videos
    request_id = generation.submission.request_id
    assert video.key.endswith(f"{IMAGE_TO_VIDEO}/{request_id}-0.mp4")
    store = media_store.get_store()
    (tmp_path / "video.mp4").write_bytes(store.read(video.key, limit_bytes=10**8))
    with av.open(str(tmp_path / "video.mp4")) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert (frames, video.media.frames_per_second, video.media.codec) == (90, 24.0, "h264")
    provenance = json.loads(store.read(video.provenance_key, limit_bytes=10**6))
    assert (provenance["request_id"], provenance["seed"], provenance["cost_usd"]) == (request_id, 7, 0.25)
    assert provenance["inputs"]["image_url"] == provenance["uri"].partition("wan-ai")[0] + "images/" + (
        provenance["image"]["sha256"] + ".jpg"
    )
    books = sandbox.books()
    assert (books.submissions_accepted, books.tokens_leaked, books.succeeded) == (1, 0, 1)


async def test_a_second_run_does_not_upload_the_image_again(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """The same image is one object, whatever is made of it."""
    for seed in (1, 2):
        settings = ImageToVideoSettings(seed=seed)
        await image_to_video(ImageSource(str(PICTURE)), "a boat", account, media_store, settings, polling=QUICK)

    assert sum(key.startswith("images/") for key in objects(media_store)) == 1
    assert sum(key.endswith(".mp4") for key in objects(media_store)) == 2


async def test_a_prompt_becomes_one_archived_video(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """Text-to-video needs no image, and stages none."""
    settings = TextToVideoSettings(num_frames=97, aspect_ratio="9:16", seed=3)

    generation = await text_to_video("rain", account, media_store, settings, polling=QUICK)

    (video,) = generation.videos
    assert video.media.frames == 97
    assert [key.rpartition(".")[2] for key in objects(media_store)] == ["mp4", "jpg", "json"]
    assert sandbox.books().requests[0].model == TEXT_TO_VIDEO


async def test_several_outputs_are_all_archived(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """One request can make several files; each gets its index, its poster, and its provenance."""
    sandbox.inject("several_files")

    generation = await text_to_video("rain", account, media_store, polling=QUICK)

    assert [video.key.rpartition("-")[2] for video in generation.videos] == ["0.mp4", "1.mp4", "2.mp4"]
    assert len(objects(media_store)) == 9


async def test_what_prefect_shows_of_a_run(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """Readable names, a finished progress, the video's poster with all that is known of it, a typed result."""
    prompt = "Rain on a window | <img src=x onerror=alert(1)>\n# loud"
    settings = TextToVideoSettings(seed=7)

    state = await text_to_video(prompt, account, media_store, settings, polling=QUICK, return_state=True)

    generation = await state.aresult()
    flow_run_id = state.state_details.flow_run_id
    assert flow_run_id is not None
    request_id, (video,) = generation.submission.request_id, generation.videos
    shown = {artifact.key: artifact for artifact in await artifacts(flow_run_id) if artifact.key}
    assert set(shown) == {"runcomfy-progress", "runcomfy-generation"}
    assert shown["runcomfy-progress"].data == 100.0
    assert request_id in str(shown["runcomfy-progress"].description)
    page, picture = str(shown["runcomfy-generation"].data), str(shown["runcomfy-generation"].description)
    assert picture.startswith(f"![{video.key.rpartition('/')[2]}](data:image/jpeg;base64,")
    assert "**Prompt:** Rain on a window | \\<img src=x onerror=alert(1)\\> # loud" in page
    for fact in (request_id, generation.submission.generation_key, TEXT_TO_VIDEO, "| Seed | 7 |", "0.25 USD", "h264"):
        assert fact in page
    endpoint = media_store.get_store().endpoint_url
    assert f"]({endpoint}/videos/{video.key})" in page and f"]({endpoint}/videos/{video.provenance_key})" in page
    async with get_client() as client:
        assert (await client.read_flow_run(flow_run_id)).name == "rain-on-a-window-img-src-x-onerror-alert-1-loud"
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
        for _ in range(100):
            names = {task.name for task in await client.read_task_runs(flow_run_filter=chosen)}
            if len(names) == 3:
                break
    assert names == {f"submit to {TEXT_TO_VIDEO}", f"wait for {request_id}", f"archive {request_id}"}


async def test_a_run_of_an_archived_generation_shows_it_too(
    account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """A second run shows the video, and that it existed before."""
    await text_to_video("rain", account, media_store, polling=QUICK)

    state = await text_to_video("rain", account, media_store, polling=QUICK, return_state=True)

    (shown,) = [one for one in await artifacts(state.state_details.flow_run_id) if one.key]
    assert shown.key == "runcomfy-generation" and "archived before this run" in str(shown.description)
    assert "data:image/jpeg" in str(shown.description) and "0.25 USD" in str(shown.data)


async def test_the_progress_of_a_failed_run_says_so_and_stays(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """A bar at its end would look like a finished video."""
    prompt = "rain [sandbox: result=failed]"
    sandbox.hold(queue=False, runs=True)
    run = asyncio.create_task(text_to_video(prompt, account, media_store, polling=QUICK, return_state=True))
    while not (run.done() or sandbox.books().polls):  # noqa: ASYNC110 - only the sandbox knows
        await asyncio.sleep(0.02)
    sandbox.release()

    state = await run

    (shown,) = [one for one in await artifacts(state.state_details.flow_run_id) if one.key == "runcomfy-progress"]
    assert isinstance(shown.data, int | float) and shown.data < 100
    assert "Ended without a result: GenerationFailed" in str(shown.description)


async def test_the_progress_has_an_estimate(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, caplog: pytest.LogCaptureFixture
) -> None:
    """From the run times of others of its kind, whichever run saw them."""
    seen = RunTimes(media_store.get_journal())
    for seconds in (61.0, 62.0, 63.0):
        seen.record(workload_of(TEXT_TO_VIDEO, TextToVideo(prompt="rain").body()), seconds)
    await seen.save()
    sandbox.hold(queue=False, runs=True)
    soon = Deadlines(queue_timeout_seconds=60, run_timeout_seconds=0.5)

    state = await text_to_video("rain", account, media_store, deadlines=soon, polling=QUICK, return_state=True)

    assert isinstance(await state.aresult(raise_on_failure=False), RunTimeout)
    assert "others like it ran for 62 s" in caplog.text


@pytest.mark.parametrize(
    "given",
    [
        {"settings": {"num_frames": 101}},
        {"settings": {"num_frame": 90}},
        {"settings": {"seed": "lucky"}},
        {"deadlines": {"queue_timeout_seconds": 0}},
        {"polling": {"max_failures": 0}},
    ],
)
async def test_wrong_parameters_are_refused_before_the_run(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, given: Any
) -> None:
    """Prefect checks a run's parameters against the typed inputs; nothing reaches the service."""
    with pytest.raises(ParameterTypeError):
        await image_to_video(ImageSource(str(PICTURE)), "a boat", account, media_store, **given)
    assert sandbox.books().submissions_received == 0


async def test_nothing_is_paid_for_if_the_image_cannot_be_used(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, tmp_path: Path
) -> None:
    """A file that only has the name of an image ends the run before the service is called."""
    (tmp_path / "fake.png").write_text("not a picture")

    with pytest.raises(InvalidInput):
        await image_to_video(ImageSource(str(tmp_path / "fake.png")), "a boat", account, media_store)
    assert sandbox.books().submissions_received == 0


async def test_nothing_is_paid_for_if_the_bucket_is_missing(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """The bucket is checked before the submission, also where no image is staged."""
    nowhere = media_store.model_copy(update={"bucket": "no-such-bucket"})
    nowhere._store = None

    with pytest.raises(StorageError):
        await text_to_video("rain", account, nowhere)
    assert sandbox.books().submissions_received == 0


async def test_nothing_is_paid_for_if_the_url_cannot_live_long_enough(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """The signed URL has to outlive queue and run deadlines together; S3 signs for seven days at most."""
    patience = Deadlines(queue_timeout_seconds=5 * 86400, run_timeout_seconds=5 * 86400)

    with pytest.raises(ConfigurationError, match="seven days"):
        await image_to_video(ImageSource(str(PICTURE)), "a boat", account, media_store, deadlines=patience)
    assert sandbox.books().submissions_received == 0


async def test_the_signed_url_outlives_both_deadlines(media_store: MediaStore) -> None:
    """An image that the service fetches at the last moment is still readable then."""
    bodies: list[dict[str, Any]] = []

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(402)
            self.end_headers()
            self.wfile.write(b'{"error_code": 400002}')

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        account = RunComfyCredentials(
            api_token=SecretStr("a-token-of-the-tests"), base_url=f"http://127.0.0.1:{server.server_port}"
        )
        with pytest.raises(InsufficientBalance):
            await image_to_video(
                ImageSource(str(PICTURE)),
                "a boat",
                account,
                media_store,
                deadlines=Deadlines(queue_timeout_seconds=7200, run_timeout_seconds=1800),
            )
        server.shutdown()

    (body,) = bodies
    (lifetime,) = parse_qs(urlsplit(body["image_url"]).query)["X-Amz-Expires"]
    assert int(lifetime) > 7200 + 1800


async def test_a_request_that_stays_in_the_queue_is_cancelled_at_its_deadline(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """It is cancelled at the service, and the error says so."""
    sandbox.hold()
    with pytest.raises(QueueTimeout):
        await image_to_video(
            ImageSource(str(PICTURE)),
            "a boat",
            account,
            media_store,
            deadlines=Deadlines(queue_timeout_seconds=0.5),
            polling=QUICK,
        )

    books = sandbox.books()
    assert (books.submissions_accepted, books.cancelled) == (1, 1)


async def test_a_running_request_is_given_up_at_its_deadline_and_fetched_later(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """The error names the request; fetching it is refused while it runs, and archives it afterwards, once."""
    sandbox.hold(queue=False, runs=True)
    with pytest.raises(RunTimeout) as caught:
        await text_to_video("rain", account, media_store, deadlines=Deadlines(run_timeout_seconds=0.5), polling=QUICK)
    request_id = caught.value.request_id
    with pytest.raises(NotFinished):
        await fetch_request(request_id, TEXT_TO_VIDEO, account, media_store)
    sandbox.release()
    sandbox.wait_for_end(request_id)

    (first,) = await fetch_request(request_id, TEXT_TO_VIDEO, account, media_store)
    (again,) = await fetch_request(request_id, TEXT_TO_VIDEO, account, media_store)

    assert (first.already_archived, again.already_archived) == (False, True)
    assert first.key == again.key == f"{media_store.get_store().prefix}{TEXT_TO_VIDEO}/{request_id}-0.mp4"
    assert sandbox.books().submissions_accepted == 1


async def test_a_lost_answer_is_an_error_of_its_own_and_paid_for_once(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """The service accepted it and the answer was lost: one submission, and all that a person needs to look it up."""
    sandbox.inject("lost_answer", endpoint="submit")

    with pytest.raises(UncertainSubmission, match="sent at 20") as caught:
        await text_to_video("rain", account, media_store)

    assert (caught.value.model_id, len(caught.value.generation_key)) == (TEXT_TO_VIDEO, 64)
    assert sandbox.books().submissions_accepted == 1


async def test_a_wrong_token_is_reported_as_such(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """Not bad input, not a broken service."""
    stranger = account.model_copy(update={"api_token": SecretStr("another-token-than-ours")})

    with pytest.raises(AuthenticationError):
        await text_to_video("rain", stranger, media_store)


async def test_archiving_is_tried_again_with_a_fresh_url(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """A download that breaks is repeated by Prefect's retries, and ends as one video with its poster and provenance."""
    sandbox.inject("truncated", times=1)

    generation = await text_to_video("rain", account, media_store, polling=QUICK)

    assert len(objects(media_store)) == 3
    assert generation.videos[0].already_archived is False
    assert sandbox.books().submissions_accepted == 1


async def test_a_failed_generation_fails_the_run_with_its_reason(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """The flow run fails, and its state has the service's reason."""
    sandbox.inject("failed")

    state = await text_to_video("rain", account, media_store, polling=QUICK, return_state=True)

    assert state.type is StateType.FAILED
    assert isinstance(await state.aresult(raise_on_failure=False), GenerationFailed)
    assert "GenerationFailed" in str(state.message)


async def test_a_queued_request_can_be_cancelled_by_its_id(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """The task returns whether it is cancelled."""
    sandbox.hold()

    @flow
    async def submit_and_cancel() -> bool:
        submission = await submit_request(TextToVideo(prompt="rain"), account, media_store)
        return await cancel_request(submission.request_id, account)

    assert await submit_and_cancel() is True
    assert sandbox.books().cancelled == 1


async def test_a_retried_flow_does_not_pay_again(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """A run that failed while it waited continues with its request when it is retried."""
    sandbox.inject("error_400004", endpoint="status")

    generation = await text_to_video.with_options(retries=1)("rain", account, media_store, polling=QUICK)

    assert len(generation.videos) == 1
    assert sandbox.books().submissions_accepted == 1


async def test_a_retried_parent_does_not_pay_again(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """A flow that calls ours, fails in a later step and is retried, gets the same video."""
    ids: list[str] = []

    @flow(retries=1)
    async def advert() -> None:
        generation = await text_to_video("rain", account, media_store, polling=QUICK)
        ids.append(generation.submission.request_id)
        if len(ids) == 1:
            raise RuntimeError("a later step failed")

    await advert()

    assert ids[0] == ids[1]
    assert sandbox.books().submissions_accepted == 1


async def test_an_uncertain_submission_is_not_sent_again_by_a_retry(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """The retry of a parent flow ends with the same uncertainty, and pays nothing."""
    sandbox.inject("lost_answer", endpoint="submit")

    @flow(retries=1)
    async def advert() -> None:
        await text_to_video("rain", account, media_store, polling=QUICK)

    with pytest.raises(UncertainSubmission):
        await advert()
    assert sandbox.books().submissions_received == 1


async def test_a_request_that_was_accepted_while_cancelled_is_not_submitted_again(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """An interruption leaves it alone, and the retry continues with it."""
    sandbox.inject("slow", endpoint="submit", seconds=1.0)
    attempts = 0

    @flow(retries=1)
    async def advert() -> str:
        nonlocal attempts
        attempts += 1
        submitting = asyncio.ensure_future(
            submit_request(TextToVideo(prompt="rain"), account, media_store, on_interrupt="leave")
        )
        if attempts == 1:
            while not sandbox.books().submissions_received:  # noqa: ASYNC110 - it happens in another thread
                await asyncio.sleep(0.02)
            submitting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await submitting
            raise RuntimeError("interrupted")
        return (await submitting).request_id

    request_id = await advert()

    assert sandbox.books().submissions_accepted == 1
    assert sandbox.books().requests[0].id == request_id


async def test_the_same_generation_at_the_same_time_is_submitted_once(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """In one flow run, the second caller gets what the first submitted; another variation is another generation."""

    @flow
    async def adverts() -> set[str]:
        asked = [submit_request(TextToVideo(prompt="rain"), account, media_store, variation=v) for v in ("", "", "2")]
        return {submission.request_id for submission in await asyncio.gather(*asked)}

    assert len(await adverts()) == 2
    assert sandbox.books().submissions_accepted == 2


async def test_another_run_of_the_same_inputs_does_not_call_the_service(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """An archived generation is returned without a single call to the service; a variation is another one."""
    first = await text_to_video("rain", account, media_store, polling=QUICK)
    before = sandbox.books()

    again = await text_to_video("rain", account, media_store, polling=QUICK)

    assert sandbox.books() == before
    assert [video.uri for video in again.videos] == [video.uri for video in first.videos]
    assert again.videos[0].already_archived and again.result == first.result
    await text_to_video("rain", account, media_store, polling=QUICK, variation="b")
    assert sandbox.books().submissions_accepted == 2


async def test_artifacts_that_cannot_be_shown_do_not_break_a_paid_run(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """An artifact that Prefect's API refuses costs a line in the log, and nothing else."""

    @flow
    async def shows() -> Any:
        return await show(acreate_progress_artifact(0.0, key="not a valid key"))

    assert await shows() is None


@pytest.mark.parametrize("url", ["http://minio:9000", "https://10.0.0.7:9000", "http://videos.example.com"])
async def test_an_image_that_the_service_cannot_reach_is_not_submitted(media_store: MediaStore, url: str) -> None:
    """A URL that is signed for this network only is refused before the live service is called."""
    live = RunComfyCredentials(api_token=SecretStr("a-token-of-the-tests"))
    store = media_store.model_copy(update={"public_endpoint_url": url})
    store._store = None

    with pytest.raises(ConfigurationError, match="public endpoint URL"):
        await image_to_video(ImageSource(str(PICTURE)), "a boat", live, store)


async def test_an_image_whose_signed_url_is_refused_is_not_submitted(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """A policy denies reading by it; nothing is paid for or recorded as started, and the URL is not shown."""
    with serving(Imitation(instead=Answer(403, error("AccessDenied")))) as public:
        store = media_store.model_copy(update={"public_endpoint_url": public.url})

        with pytest.raises(ConfigurationError, match="a policy of the bucket"):
            await image_to_video(ImageSource(str(PICTURE)), "a boat", account, store)

    assert len(public.gets) == 1
    assert sandbox.books().submissions_received == 0
    assert [name async for name in names(store)] == []


async def test_a_model_that_takes_an_image_is_not_submitted_without_one(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """A task that is composed wrongly is refused before anything is paid for."""

    @flow
    async def forgets() -> None:
        await submit_request(ImageToVideo(prompt="a boat", image_url="s3://videos/a.png"), account, media_store)

    with pytest.raises(InvalidInput):
        await forgets()
    assert sandbox.books().submissions_received == 0


def test_a_session_token_is_masked_in_what_prefect_stores(media_store: MediaStore) -> None:
    """prefect-aws keeps it as plain text; it is whole only where a block is saved."""
    keys = media_store.credentials.model_copy(update={"aws_session_token": "t0k3n"})  # type: ignore[union-attr]
    store = media_store.model_copy(update={"credentials": keys})

    assert "t0k3n" not in store.model_dump_json()
    assert "t0k3n" not in store.model_dump_json(
        context={"include_secrets": True}
    )  # as Prefect passes a flow's context on
    assert "t0k3n" in store.model_dump_json(by_alias=True, context={"include_secrets": True})


@pytest.mark.parametrize("hosts", [[], ["https://cdn.example.com/"], ["a b"]])
def test_output_hosts_are_checked_when_they_are_given(hosts: list[str]) -> None:
    """A pattern that cannot work is refused when the block is made, not when a paid video waits."""
    with pytest.raises(ValidationError):
        RunComfyCredentials(api_token=SecretStr("a-token-of-the-tests"), output_hosts=hosts)


async def test_a_text_that_an_earlier_version_paid_for_as_it_was_given_is_not_paid_for_again(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """Its entry is under another key than the text's present form has, and a flow and a task find it there."""
    prompt, journal = "rain \r\non a window", media_store.get_journal()
    inputs = TextToVideo(prompt=prompt)
    key = earlier_key(inputs, variation=" 2")
    intent = await journal.create(GenerationSpec(inputs, sandbox.url, variation=" 2", known_as=key).intent("old:1"))
    assert intent is not None
    await journal.replace(intent, intent.entry.moved(EntryState.UNCERTAIN, worker="old:1"))

    with pytest.raises(UncertainSubmission) as caught:
        await text_to_video(prompt, account, media_store, variation=" 2")

    assert (caught.value.generation_key, sandbox.books().submissions_received) == (key, 0)
    made = await text_to_video("rain \non a window", account, media_store, variation="2")
    again = await text_to_video("rain \non a window\n", account, media_store, variation="2\n")
    assert made.submission.request_id == again.submission.request_id
    assert sandbox.books().submissions_received == 1
