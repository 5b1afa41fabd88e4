"""The `reconcile` flow: what nobody waited for reaches the archive or a person, and live runs are safe."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from blocks import MediaStore, RunComfyCredentials
from flows.reconcile import reconcile
from flows.text_to_video import text_to_video
from runcomfy.errors import GenerationFailed, NoOutput, QueueTimeout, RequestNotFound, RunTimeout, UncertainSubmission
from runcomfy.generation.reconcile import Reconciliation
from runcomfy.journal import Entry, EntryState, cancel_or_detach
from runcomfy.models import TextToVideo, generation_key
from runcomfy.policy import Deadlines, Polling
from runcomfy.sandbox import Sandbox
from runcomfy.storage.garbage import collect_garbage

QUICK = Polling(min_interval_seconds=0.05, default_interval_seconds=0.05)
SOON = Deadlines(queue_timeout_seconds=60, run_timeout_seconds=0.3)


async def entry_of(store: MediaStore, prompt: str = "rain") -> Entry:
    found = await store.get_journal().read(generation_key(TextToVideo(prompt=prompt)))
    assert found is not None
    return found.entry


def objects(store: MediaStore) -> list[str]:
    listing = store.get_store().client.list_objects_v2(Bucket="videos", Prefix=store.get_store().key("wan-ai/"))
    return sorted(entry["Key"].rpartition(".")[2] for entry in listing.get("Contents", []))


async def reconciled(account: RunComfyCredentials, store: MediaStore) -> Reconciliation:
    found: Reconciliation = await reconcile(account, store, abandoned_after_seconds=0)
    return found


async def detached(sandbox: Sandbox, account: RunComfyCredentials, store: MediaStore) -> str:
    """Run a generation into its run deadline, and return its request."""
    sandbox.hold(queue=False, runs=True)
    with pytest.raises(RunTimeout):
        await text_to_video("rain", account, store, deadlines=SOON, polling=QUICK)
    entry = await entry_of(store)
    assert entry.state is EntryState.DETACHED and entry.request_id
    return entry.request_id


async def test_a_request_that_finishes_after_the_run_deadline_is_collected(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """It is left alone while it runs, and archived by the next reconcile; the next run finds it there."""
    request_id = await detached(sandbox, account, media_store)

    assert (await reconciled(account, media_store)).collected == {}
    sandbox.release()
    sandbox.wait_for_end(request_id)
    found = await reconciled(account, media_store)

    (videos,) = found.collected.values()
    assert [video.request_id for video in videos] == [request_id]
    assert objects(media_store) == ["jpg", "json", "mp4"]
    entry = await entry_of(media_store)
    assert (entry.state, entry.cost_usd) == (EntryState.ARCHIVED, 0.25)
    before = sandbox.books()
    generation = await text_to_video("rain", account, media_store, polling=QUICK)
    assert generation.videos[0].uri == videos[0].uri and sandbox.books() == before
    assert (await reconciled(account, media_store)).open == 0


async def test_the_next_run_collects_it_as_well(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """The next run of the same inputs polls the detached request, and does not pay again."""
    request_id = await detached(sandbox, account, media_store)
    sandbox.release()

    generation = await text_to_video("rain", account, media_store, polling=QUICK)

    assert generation.submission.request_id == request_id
    assert sandbox.books().submissions_accepted == 1


@pytest.mark.parametrize(
    ("fault", "state"),
    [("failed", EntryState.FAILED), ("expired", EntryState.EXPIRED)],
)
async def test_the_outcome_of_a_detached_request_is_found_out(
    sandbox: Sandbox,
    account: RunComfyCredentials,
    media_store: MediaStore,
    fault: str,
    state: EntryState,
) -> None:
    """A failed request is marked so that it may be tried again; one that is unknown by now waits for a person.

    In its first minute that is not believed (test_odd_answers.py), so this test is past that minute.
    """
    if state is EntryState.FAILED:
        sandbox.inject(fault)
    request_id = await detached(sandbox, account, media_store)
    if state is EntryState.EXPIRED:
        sandbox.inject(fault, request_id=request_id)
        key = generation_key(TextToVideo(prompt="rain"))
        assert (await reconciled(account, media_store)).need_a_person == {}
        await media_store.get_journal().advance(key, request_id, EntryState.EXPIRED)
    sandbox.release()
    sandbox.wait_for_end(request_id)

    found = await reconciled(account, media_store)

    entry = await entry_of(media_store)
    assert entry.state is state
    assert (list(found.need_a_person) == [entry.generation_key]) == (state is EntryState.EXPIRED)
    assert sandbox.books().submissions_accepted == 1
    if state is EntryState.EXPIRED:
        with pytest.raises(RequestNotFound):
            await text_to_video("rain", account, media_store, polling=QUICK)
        assert sandbox.books().submissions_accepted == 1


async def test_an_uncertain_submission_is_reported_and_not_sent_again(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """However often it is checked: only a person can find out."""
    sandbox.inject("lost_answer", endpoint="submit")
    with pytest.raises(UncertainSubmission):
        await text_to_video("rain", account, media_store, polling=QUICK)

    for _ in range(2):
        found = await reconciled(account, media_store)
        assert list(found.need_a_person) == [(await entry_of(media_store)).generation_key]
    assert sandbox.books().submissions_received == 1


async def test_an_intent_of_a_dead_worker_becomes_uncertain(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """Whether it came to the paid call is unknown, so it is reported to a person."""
    journal = media_store.get_journal()
    now = datetime.now(UTC)
    inputs = TextToVideo(prompt="rain")
    fresh = await journal.create(
        Entry(
            generation_key=generation_key(inputs), state=EntryState.INTENT, model_id=inputs.model_id,
            service=account.base_url, inputs=inputs.body(), patience_seconds=600, created_at=now, updated_at=now,
            history=({"at": now, "state": "intent", "worker": "gone:1"},),
        )
    )  # fmt: skip
    assert fresh is not None
    assert (await reconciled(account, media_store)).need_a_person == {}
    await journal.replace(fresh, fresh.entry.model_copy(update={"patience_seconds": 0.5}))
    await asyncio.sleep(2)  # a store's clock may show whole seconds

    found = await reconciled(account, media_store)

    assert "gone:1" in found.need_a_person[generation_key(inputs)]
    assert (await entry_of(media_store)).state is EntryState.UNCERTAIN


async def test_a_cancel_that_was_answered_wrongly_is_found_out(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """The service says that a running request is cancelled: it is polled, and its video collected."""
    request_id = await detached(sandbox, account, media_store)
    sandbox.inject("cancel_says_completed", endpoint="cancel")
    key = generation_key(TextToVideo(prompt="rain"))
    async with account.get_client() as client:
        state = await cancel_or_detach(client, media_store.get_journal(), key, request_id, reason="a test")
    assert state is EntryState.DETACHED

    await media_store.get_journal().advance(key, request_id, EntryState.CANCELLED)  # as if it had been believed
    sandbox.release()
    sandbox.wait_for_end(request_id)
    found = await reconciled(account, media_store)

    assert list(found.collected) == [key]
    assert (await entry_of(media_store)).state is EntryState.ARCHIVED


async def test_a_success_without_files_waits_for_a_person(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """It was paid for, so it is neither forgotten nor paid for again."""
    sandbox.inject("no_output", endpoint="result", times=None)
    with pytest.raises(NoOutput):
        await text_to_video("rain", account, media_store, polling=QUICK)

    found = await reconciled(account, media_store)

    assert len(found.need_a_person) == 1
    with pytest.raises(NoOutput):
        await text_to_video("rain", account, media_store, polling=QUICK)
    assert sandbox.books().submissions_accepted == 1


async def test_at_the_queue_deadline_another_run_may_try_again(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """A cancel in the queue is final; a later run submits again."""
    sandbox.hold()
    with pytest.raises(QueueTimeout):
        await text_to_video("rain", account, media_store, deadlines=Deadlines(queue_timeout_seconds=0.2), polling=QUICK)
    assert (await entry_of(media_store)).state is EntryState.CANCELLED
    sandbox.release()

    await text_to_video("rain", account, media_store, polling=QUICK)

    entry = await entry_of(media_store)
    assert (entry.state, entry.attempt, len(entry.request_ids)) == (EntryState.ARCHIVED, 2, 2)


async def test_a_retry_of_the_same_run_does_not_pay_for_a_failure_again(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """Prefect's own retries end with the same failure; another run pays for another attempt."""
    sandbox.inject("failed", endpoint="result")

    with pytest.raises(GenerationFailed):
        await text_to_video.with_options(retries=2)("rain", account, media_store, polling=QUICK)

    assert sandbox.books().submissions_accepted == 1
    await text_to_video("rain", account, media_store, polling=QUICK)
    assert sandbox.books().submissions_accepted == 2


async def test_unfinished_uploads_and_old_images_are_removed(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """Uploads by their age; images only if a policy says so, and never young ones."""
    store = media_store.get_store()
    ours, others = store.key("wan-ai/wan-2-1/text-to-video/r1-0.mp4"), store.key("backups/big.dump")
    for key in (ours, others):
        store.client.create_multipart_upload(Bucket="videos", Key=key)
    picture = store.key(f"images/{'a' * 64}.png")
    for key in (picture, store.key("images/holiday.png"), store.key("journal/.probe-x")):
        store.put(key, b"x", content_type="image/png")

    found = await reconcile(account, media_store, images_older_than_days=2)
    assert (found.aborted_uploads, found.removed_images) == ([], [])
    swept = collect_garbage(store, uploads_older_than=timedelta(0), images_older_than=timedelta(days=2))

    assert (swept.uploads, swept.images) == ([ours], [])
    assert [upload.key for upload in store.unfinished_uploads(store.prefix)] == [others]
    assert store.head(picture) is not None and store.head(store.key("journal/.probe-x")) is None


async def test_reconciling_beside_live_runs_is_safe(
    sandbox: Sandbox, account: RunComfyCredentials, media_store: MediaStore
) -> None:
    """Both may archive the same request at the same time: one object, one payment, and both record it."""
    prompts = [f"rain {number}" for number in range(5)]

    async def keep_reconciling(until: asyncio.Event) -> None:
        while not until.is_set():
            await reconciled(account, media_store)
            await asyncio.sleep(0.5)  # Prefect's test server records a few runs a second

    over = asyncio.Event()
    beside = asyncio.create_task(keep_reconciling(over))
    generations = await asyncio.gather(
        *(text_to_video(prompt, account, media_store, polling=QUICK) for prompt in prompts)
    )
    over.set()
    await beside

    assert sandbox.books().submissions_accepted == len(prompts)
    assert objects(media_store) == sorted(["jpg", "json", "mp4"] * len(prompts))
    assert len({generation.videos[0].uri for generation in generations}) == len(prompts)
    for prompt in prompts:
        assert (await entry_of(media_store, prompt)).state is EntryState.ARCHIVED
