"""The tasks as Prefect's users call them: futures, `.map`, `.submit`, wrappers, sync code: what is paid is archived."""

from __future__ import annotations

import asyncio
import traceback
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from prefect import allow_failure, flow, task, unmapped
from prefect.futures import wait
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from blocks import MediaStore, RunComfyCredentials
from runcomfy.models import TEXT_TO_VIDEO, TextToVideo
from runcomfy.policy import Polling
from runcomfy.sandbox import Sandbox
from runcomfy.values import ArchivedVideo, Submission
from tasks import archive_outputs, submit_request, wait_for_result

QUICK = Polling(min_interval_seconds=0.05, default_interval_seconds=0.1, max_interval_seconds=0.2)
PROMPTS = ["rain", "snow"]

Videos = list[ArchivedVideo]
Caller = Callable[[RunComfyCredentials, MediaStore], list[Videos]]


def inputs() -> list[TextToVideo]:
    return [TextToVideo(prompt=prompt) for prompt in PROMPTS]


@flow
def chains_of_futures(account: RunComfyCredentials, store: MediaStore) -> list[Videos]:
    """Each stage is given the future of the one before."""
    futures = []
    for each in inputs():
        submission = submit_request.submit(each, account, store)
        result = wait_for_result.submit(submission, account, store, polling=QUICK)
        futures.append(
            archive_outputs.submit(result, account, store, model_id=TEXT_TO_VIDEO, inputs=each, submission=submission)
        )
    return [future.result() for future in futures]


@flow
def maps(account: RunComfyCredentials, store: MediaStore) -> list[Videos]:
    """Each stage is mapped over the futures of the one before."""
    account_, store_ = unmapped(account), unmapped(store)
    submissions = submit_request.map(inputs(), account_, store_)
    results = wait_for_result.map(submissions, account_, store_, polling=unmapped(QUICK))
    videos = archive_outputs.map(results, account_, store_, model_id=unmapped(TEXT_TO_VIDEO), submission=submissions)
    return videos.result()


@flow
def maps_over_results(account: RunComfyCredentials, store: MediaStore) -> list[Videos]:
    """Each stage is mapped over a plain list of what the one before returned."""
    submissions = submit_request.map(inputs(), unmapped(account), unmapped(store)).result()
    results = wait_for_result.map(submissions, unmapped(account), unmapped(store)).result()
    return archive_outputs.map(
        results, unmapped(account), unmapped(store), model_id=TEXT_TO_VIDEO, submission=submissions
    ).result()


@flow
def wrappers(account: RunComfyCredentials, store: MediaStore) -> list[Videos]:
    """`allow_failure` around the arguments, `wait_for` beside them, and their own names and retries."""
    archiving = archive_outputs.with_options(name="keep", retries=1)
    futures = []
    for each in inputs():
        submission = submit_request.with_options(task_run_name="pay").submit(each, account, store)
        result = wait_for_result.submit(allow_failure(submission), account, store)
        futures.append(
            archiving.submit(
                allow_failure(result), account, store, model_id=TEXT_TO_VIDEO,
                submission=allow_failure(submission), wait_for=[allow_failure(result), submission],
            )
        )  # fmt: skip
    wait(futures)
    return [future.result() for future in futures]


@flow
def states(account: RunComfyCredentials, store: MediaStore) -> list[Videos]:
    """Each stage is given the final state of the one before."""
    found = []
    for each in inputs():
        submission = submit_request.submit(each, account, store, return_state=True)
        result = wait_for_result.submit(submission, account, store, return_state=True)
        found.append(
            archive_outputs.submit(result, account, store, model_id=TEXT_TO_VIDEO, submission=submission).result()
        )
    return found


@flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
def few_threads(account: RunComfyCredentials, store: MediaStore) -> list[Videos]:
    """Fewer threads than chains."""
    return chains(account, store)


def chains(account: RunComfyCredentials, store: MediaStore) -> list[Videos]:
    return chains_of_futures.fn(account, store)


@task
def one(each: TextToVideo, account: RunComfyCredentials, store: MediaStore) -> Videos:
    """A sync task of the user's own, around ours."""
    submission = submit_request.submit(each, account, store).result()
    result = wait_for_result.submit(submission, account, store).result()
    return archive_outputs.submit(
        result.request_id, account, store, model_id=TEXT_TO_VIDEO, submission=submission
    ).result()


@flow
def tasks_in_tasks(account: RunComfyCredentials, store: MediaStore) -> list[Videos]:
    """A sync task of the user's own submits ours."""
    return one.map(inputs(), unmapped(account), unmapped(store)).result()


@flow
def own_loop(account: RunComfyCredentials, store: MediaStore) -> list[Videos]:
    """A sync flow runs an event loop of its own for our tasks."""

    async def generate(each: TextToVideo) -> Videos:
        submission = await submit_request(each, account, store)
        result = await wait_for_result(submission, account, store)
        return await archive_outputs(result, account, store, model_id=TEXT_TO_VIDEO, submission=submission)

    async def generate_all() -> list[Videos]:
        return list(await asyncio.gather(*map(generate, inputs())))

    return asyncio.run(generate_all())


def no_flow(account: RunComfyCredentials, store: MediaStore) -> list[Videos]:
    """No flow at all."""
    return own_loop.fn(account, store)


CALLERS: list[Any] = [
    chains_of_futures,
    maps,
    *(
        pytest.param(caller, marks=pytest.mark.slow)
        for caller in (maps_over_results, wrappers, states, few_threads, tasks_in_tasks, own_loop, no_flow)
    ),
]


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: getattr(caller, "__name__", str(caller)))
def test_as_many_archives_as_payments(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, caller: Caller
) -> None:
    """Two are requested in every way: two payments, two archives."""
    made = caller(account, media_store)

    assert len({videos[0].uri for videos in made}) == len(PROMPTS)
    assert sandbox.books().submissions_accepted == len(PROMPTS)
    for video in (video for videos in made for video in videos):
        assert media_store.get_store().head(video.key) is not None


@flow
def one_fails(account: RunComfyCredentials, store: MediaStore) -> list[Any]:
    """Of three chains, the middle one fails at the service."""
    futures = []
    for prompt in ("rain", "snow [sandbox: result=failed]", "hail"):
        submission = submit_request.submit(TextToVideo(prompt=prompt), account, store)
        result = wait_for_result.submit(submission, account, store)
        futures.append(archive_outputs.submit(result, account, store, model_id=TEXT_TO_VIDEO, submission=submission))
    wait(futures)
    return [future.result() if future.state.is_completed() else future.state for future in futures]


@pytest.mark.slow
def test_a_chain_that_fails_leaves_the_others_alone(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """Three payments, two archives, and the third stage of the failed chain never starts."""
    first, second, third = one_fails(account, media_store)

    assert first[0].uri != third[0].uri
    assert second.name == "NotReady"
    assert sandbox.books().submissions_accepted == 3


@flow
def of_something_else(account: RunComfyCredentials, store: MediaStore) -> None:
    wait_for_result.submit(allow_failure(nothing.submit()), account, store).result()


@task
def nothing() -> Submission:
    raise ValueError("no submission")


@pytest.mark.slow
def test_an_argument_that_is_no_submission_is_refused(account: RunComfyCredentials, media_store: MediaStore) -> None:
    """An upstream task's error that `allow_failure` lets through is refused as what it is, not by its name."""
    with pytest.raises(TypeError, match="a ValueError"):
        of_something_else(account, media_store)


def in_processes() -> TaskRunner[Any]:
    return ProcessPoolTaskRunner(max_workers=2)


def on_dask() -> TaskRunner[Any]:
    from prefect_dask import DaskTaskRunner

    return DaskTaskRunner(cluster_kwargs={"n_workers": 1, "threads_per_worker": 4, "dashboard_address": None})


@pytest.fixture
def saved_account(account: RunComfyCredentials) -> RunComfyCredentials:
    account.save(name := f"a{uuid.uuid4().hex}", _sync=True)
    return RunComfyCredentials.load(name, _sync=True)


@pytest.fixture
def saved_store(media_store: MediaStore) -> MediaStore:
    media_store.save(name := f"s{uuid.uuid4().hex}", _sync=True)
    return MediaStore.load(name, _sync=True)


@pytest.mark.slow
@pytest.mark.parametrize("runner", [in_processes, on_dask])
@pytest.mark.parametrize("caller", [chains_of_futures, maps])
def test_as_many_archives_as_payments_in_other_processes(
    sandbox: Sandbox,
    saved_account: RunComfyCredentials,
    saved_store: MediaStore,
    caller: Any,
    runner: Callable[[], TaskRunner[Any]],
) -> None:
    """Blocks that are saved travel without their secrets, and submissions and results as they are."""
    made = caller.with_options(task_runner=runner())(saved_account, saved_store)

    assert len({videos[0].uri for videos in made}) == len(PROMPTS)
    assert sandbox.books().submissions_accepted == len(PROMPTS)
    for video in (video for videos in made for video in videos):
        assert saved_store.get_store().head(video.key) is not None


@pytest.mark.slow
@pytest.mark.parametrize("runner", [in_processes, on_dask])
def test_an_unsaved_block_is_refused_before_anything_is_paid_for(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore, runner: Callable[[], TaskRunner[Any]]
) -> None:
    """The error says what to do, below what Prefect or Dask add to it."""
    with pytest.raises(Exception) as refused:
        chains_of_futures.with_options(task_runner=runner())(account, media_store)

    said = "".join(traceback.format_exception(refused.value))
    assert 'block.save("NAME")' in said and sandbox.token not in said
    assert sandbox.books().submissions_received == 0
