"""A catalogue whose schema changes between two runs: nothing is paid twice, and people hear what changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from pydantic import SecretStr

from blocks import MediaStore, RunComfyCredentials
from flows.generate import generate
from flows.parameters import GivenInputs
from flows.reconcile import reconcile
from runcomfy.doctor import Mark
from runcomfy.doctor.drift import drift_check, drift_of_pins
from runcomfy.errors import InvalidInput, RequestRejected
from runcomfy.models.pins import Pin, note_of
from runcomfy.sandbox import Sandbox, SandboxSettings
from tests.flows.test_any_model import QUICK
from tests.ports import free_ports

MODEL = "somebody/painter/text-to-image"
FIELDS: dict[str, Any] = {
    "prompt": {"type": "string", "default": "a sample"},
    "size": {"type": "string", "enum": ["s", "m"], "default": "s"},
    "steps": {"type": "integer", "maximum": 20, "default": 10},
}
DRIFTED: dict[str, Any] = {
    "prompt": {"type": "string", "default": "another sample", "title": "What to paint"},
    "size": {"type": "string", "enum": ["m", "l"], "default": "m"},
    "steps": {"type": "integer", "maximum": 30, "default": 10},
}


@contextmanager
def catalogue(folder: Path, fields: dict[str, Any], port: int = 0) -> Iterator[tuple[Sandbox, RunComfyCredentials]]:
    folder.mkdir()
    entry = {"model_id": MODEL, "input_schema": {"type": "object", "properties": fields, "required": ["prompt"]}}
    (folder / "painter.json").write_text(json.dumps(entry), encoding="utf-8")
    with Sandbox(SandboxSettings(port=port, run_seconds=0.05, tiny_videos=True, models=folder)) as sandbox:
        token = SecretStr(sandbox.token)
        yield sandbox, RunComfyCredentials(api_token=token, base_url=sandbox.url, output_hosts=[sandbox.host])


async def page() -> str:
    async with get_client() as client:
        key = ArtifactFilter(key=ArtifactFilterKey(any_=["runcomfy-journal"]))
        found = await client.read_artifacts(artifact_filter=key, sort=ArtifactSort.CREATED_DESC, limit=1)
    return str(found[0].data)


async def test_a_drift_between_two_runs(media_store: MediaStore, tmp_path: Path) -> None:
    """The pin goes on; doctor and reconcile's page say what changed; with the pin refreshed nothing is paid again."""
    journal = media_store.get_journal()
    inputs, (port,) = GivenInputs({"prompt": "a fox"}), free_ports()
    with catalogue(tmp_path / "before", FIELDS, port) as (sandbox, account):
        made = await generate(MODEL, inputs, account, media_store, polling=QUICK)
        async with account.get_client() as client:
            (same,) = await drift_of_pins(client, journal)
        assert not same.changes and not same.unknown
        await reconcile(account, media_store)
        assert MODEL not in await page()
        assert sandbox.books().submissions_accepted == 1

    with catalogue(tmp_path / "after", DRIFTED, port) as (sandbox, account):
        again = await generate(MODEL, inputs, account, media_store, polling=QUICK)
        assert [video.key for video in again.videos] == [video.key for video in made.videos]

        async def client_of() -> Any:
            return account.get_client()

        async def journal_of() -> Any:
            return journal

        verdict = await drift_check(client_of, journal_of, needs=()).run()
        assert verdict.mark is Mark.WARNING and "1 of 1" in verdict.found and "models refresh" in verdict.advice
        for change in ('size: accepts "l" as well', 'size: no longer accepts "s"'):
            assert change in verdict.found
        assert "sample" not in verdict.found and "What to paint" not in verdict.found
        await reconcile(account, media_store)
        shown = (await page()).replace("\\", "")
        assert f"{MODEL}: size: accepts" in shown and f"models refresh {MODEL} --bucket s3://" in shown

        with pytest.raises(InvalidInput):  # the pin refuses what the service would take by now
            await generate(MODEL, GivenInputs({"prompt": "a fox", "size": "l"}), account, media_store, polling=QUICK)
        with pytest.raises(RequestRejected):  # and the service, what the pin accepts: that costs nothing
            await generate(MODEL, GivenInputs({"prompt": "an owl", "size": "s"}), account, media_store, polling=QUICK)
        assert sandbox.books().submissions_accepted == 0

        old = Pin.from_json(await journal.read_note(note_of(MODEL)) or b"", MODEL)
        async with account.get_client() as client:
            new = old.refreshed(Pin.from_entry(await client.model(MODEL), client.base_url))
            await journal.update_note(note_of(MODEL), lambda _: new.to_json())
            (same,) = await drift_of_pins(client, journal)
        assert not same.changes
        after = await generate(MODEL, inputs, account, media_store, polling=QUICK)
        assert [video.key for video in after.videos] == [video.key for video in made.videos]
        assert sandbox.books().submissions_accepted == 0


async def test_offline_nothing_is_known_and_nothing_fails(media_store: MediaStore, tmp_path: Path) -> None:
    """Nor where the model is gone from the catalogue: that is a change."""
    journal = media_store.get_journal()
    entry = {"model_id": MODEL, "input_schema": {"properties": FIELDS}}
    await journal.create_note(note_of(MODEL), Pin.from_entry(entry, "a file").to_json())
    with catalogue(tmp_path / "models", FIELDS) as (_, account):
        gone = {**entry, "model_id": "somebody/gone"}
        await journal.create_note(note_of("somebody/gone"), Pin.from_entry(gone, "a file").to_json())
        async with account.get_client() as client:
            found = {each.model_id: each for each in await drift_of_pins(client, journal)}
    assert found["somebody/gone"].changes == ("it is no longer in the catalogue",)
    assert found[MODEL].changes == ("prompt: it is required now",)

    async with account.get_client() as client:  # the service has ended
        offline = await drift_of_pins(client, journal, seconds=1)
    assert len(offline) == 2 and all(each.unknown and not each.changes for each in offline)
