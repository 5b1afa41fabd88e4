"""`generate` with the form of one model: what Prefect is told of it, and what a run of it does."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from blocks import MediaStore, RunComfyCredentials
from flows.generate import generate
from flows.model_form import flow_of_file
from runcomfy.cli.__main__ import main
from runcomfy.errors import ConfigurationError
from runcomfy.sandbox import Sandbox
from tests.flows.test_any_model import FOLDER, QUICK, account, models

__all__ = ["account", "models"]  # fixtures
IMAGE = "blackforestlabs/flux-2-klein/9b/text-to-image"


async def test_it_is_the_same_generation_as_without_the_form(
    account: RunComfyCredentials,
    media_store: MediaStore,
    models: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What `init --model` wrote is loaded as `prefect deploy` does it, run, and paid for once with `generate`."""
    main(["init", str(tmp_path), "--model", str(FOLDER / f"{IMAGE.replace('/', '-')}.json"), "--json"])
    file = tmp_path / "flows" / "blackforestlabs_flux_2_klein_9b_text_to_image.py"
    as_installed = file.read_text(encoding="utf-8").replace("prefect_runcomfy.flows", "flows")
    file.write_text(as_installed, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    flow = load_flow_from_entrypoint(f"{file.relative_to(tmp_path)}:{file.stem}")

    schema = parameter_schema(flow)
    form = schema.properties["inputs"]
    assert list(schema.properties) == list(parameter_schema(generate).properties)
    assert schema.properties["model"]["enum"] == [IMAGE]
    assert form["required"] == ["prompt"] and form["properties"]["prompt"]["type"] == "string"

    before = models.books().submissions_accepted
    one = await flow(IMAGE, {"prompt": "a fox"}, account, media_store, polling=QUICK)
    other = await generate(IMAGE, {"prompt": "a fox"}, account, media_store, polling=QUICK)  # type: ignore[arg-type]

    assert one.submission.request_id == other.submission.request_id
    assert models.books().submissions_accepted == before + 1


@pytest.mark.parametrize(("text", "words"), [(None, "No such file"), ("{", "no JSON document")])
def test_a_file_that_is_gone_or_broken_is_named(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "model.json"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=rf"model\.json.*{words}"):
        flow_of_file(file)
