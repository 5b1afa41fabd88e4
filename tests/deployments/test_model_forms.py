"""Deployments of one model each: Prefect's server refuses bad runs itself, and a good one ends as files."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, temporary_settings

from runcomfy.models.forms import deployment_name
from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.sandbox.objectstore import ObjectStore
from tests.deployments.conftest import POOL, ROOT, PrefectServer

pytestmark = pytest.mark.slow

FOLDER = ROOT / "tests" / "contract" / "models"
IMAGE, AUDIO = "blackforestlabs/flux-2-klein/9b/text-to-image", "elevenlabs/elevenlabs/music-generation"
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    IMAGE: ({"prompt": "a fox"}, {"prompt": ""}),
    AUDIO: ({"prompt": "quiet piano"}, {"prompt": "quiet piano", "music_length_ms": "long"}),
    "bytedance/seedance-2.0/pro": (
        {"prompt": "x", "images": ["s3://b/k.png"], "duration": 8}, {"prompt": "x", "duration": 99},
    ),
    "wan-ai/wan-2.7/edit": (
        {"prompt": "x", "image_urls": ["s3://b/k"]}, {"prompt": "x", "image_urls": ["https://h/k?sig=0123abcd"]},
    ),
    "kling/kling/lipsync/audio-to-video": (
        {"video_url": "s3://b/v.mp4", "audio_url": "s3://b/a.mp3"},
        {"video_url": "s3://b/v.mp4", "audio_url": "https://h/a?X-Amz-Signature=0123abcd"},
    ),
    "blackforestlabs/flux-3/keyframes-to-video": ({"prompt": "x", "keyframes": []}, {"prompt": "x"}),
    "acestep-ai/ace-step-1.5/text-to-audio": ({"tags": "pop"}, {"tags": "pop", "tgas": "pop"}),
}  # fmt: skip
"""What the server accepts, and what it refuses."""


@pytest.fixture(scope="module")
def models() -> Iterator[Sandbox]:
    with Sandbox(SandboxSettings(run_seconds=0.05, tiny_videos=True, models=FOLDER)) as sandbox:
        yield sandbox


def test_a_form_for_each_model(
    prefect_server: PrefectServer,
    models: Sandbox,
    object_store: ObjectStore,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Created once, changed when asked; bad runs refused, and a good one made by a worker, paid once."""
    server = prefect_server
    server.deploy()
    for name, value in {
        "API_TOKEN": models.token, "BASE_URL": models.url, "OUTPUT_HOSTS": models.host, "BUCKET": f"s3://videos/{prefix}",
        "STORE_ACCESS_KEY_ID": object_store.access_key, "STORE_SECRET_ACCESS_KEY": object_store.secret_key,
    }.items():  # fmt: skip
        monkeypatch.setenv(f"RUNCOMFY_{name}", value)
    blocks = ["--credentials-block", prefix, "--store-block", prefix, "--pool", POOL, "--limit", prefix]
    added = [word for model in MODELS for word in ("--add-model", model)]
    bucket = ["--endpoint-url", object_store.endpoint_url, "--region", "us-east-1"]
    words = ["deployments.setup", "--no-prompt", *blocks, *bucket, *added]

    with temporary_settings({PREFECT_API_URL: server.api_url}), get_client(sync_client=True) as client:
        for each in client.read_deployments():  # of another try
            if each.name in map(deployment_name, MODELS):
                client.delete_deployment(each.id)
    before = models.books().submissions_accepted

    first, second = server.run(*words), server.run(*words)

    for said, outcome in ((first, "created"), (second, "unchanged")):
        made = {line.split()[2]: line.split()[0] for line in said.splitlines() if line[10:20] == "deployment"}
        assert made == dict.fromkeys(map(deployment_name, MODELS), outcome)
    with temporary_settings({PREFECT_API_URL: server.api_url}), get_client(sync_client=True) as client:
        ids = {each: client.read_deployment_by_name(f"generate/{deployment_name(each)}").id for each in MODELS}
        quick = {"polling": {"min_interval_seconds": 0.2}}
        for model, (good, bad) in MODELS.items():
            started = client.create_flow_run_from_deployment(ids[model], parameters={"inputs": good} | quick)
            if model not in (IMAGE, AUDIO):
                client.delete_flow_run(started.id)
            for refused in ({"inputs": bad}, {"inputs": good, "model": "another/model"}, {}):
                with pytest.raises(PrefectHTTPStatusError) as caught:
                    client.create_flow_run_from_deployment(ids[model], parameters=refused)
                assert caught.value.response.status_code == 409
        runs = {run.deployment_id: run.id for run in client.read_flow_runs()}
        assert set(runs) >= {ids[IMAGE], ids[AUDIO]} and not set(runs) & {ids[each] for each in list(MODELS)[2:]}
        with server.running("prefect", "worker", "start", "--pool", POOL, "--name", "forms"):
            deadline = time.monotonic() + 900
            for model in (IMAGE, AUDIO):
                while not (run := client.read_flow_run(runs[ids[model]])).state.is_final():
                    assert time.monotonic() < deadline, run.state
                    time.sleep(0.3)
                assert run.state.type is StateType.COMPLETED, run.state.message
        for each in ids.values():
            client.delete_deployment(each)
    assert models.books().submissions_accepted == before + 2
    found = object_store.session().client("s3", endpoint_url=object_store.endpoint_url).list_objects_v2(
        Bucket="videos", Prefix=f"{prefix}/"
    )["Contents"]  # fmt: skip
    kinds = {Path(entry["Key"]).suffix for entry in found if not entry["Key"].startswith(f"{prefix}/journal")}
    assert {".png", ".mp3"} <= kinds, kinds
    assert "0123abcd" not in json.dumps(first + second)
