"""How many files are good, by model and setting, and what a good one costs: nothing is lost, and no text gets in."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from runcomfy.generation.verdicts import Judged, counted, counted_by_setting
from runcomfy.models.settings import main_label_of, settings_of
from runcomfy.sandbox import Sandbox, SandboxSettings
from tests.runcomfy.cli.command_line import CommandLine, command_line

__all__ = ["command_line"]

VALUES = st.one_of(st.integers(), st.booleans(), st.sampled_from(["480p", "720p", "16:9", "high"]))
INPUTS = st.dictionaries(st.sampled_from(["resolution", "num_frames", "duration", "mode", "strength"]), VALUES)
VERDICTS = st.lists(st.sampled_from(["good", "suspect", "damaged", "not_judged", "of a later version"]), max_size=4)
GENERATIONS = st.builds(
    lambda model, inputs, verdicts, cost: Judged(model, settings_of(inputs), verdicts, cost, int(cost is None)),
    st.sampled_from(["a/video", "b/image"]), INPUTS, VERDICTS, st.none() | st.sampled_from([0.0, 0.25, 0.4]),
)  # fmt: skip


@given(st.lists(GENERATIONS, max_size=60))
def test_every_file_and_cost_is_in_exactly_one_group(generations: list[Judged]) -> None:
    """However many settings there are, a model has thirteen groups at most."""
    groups, whole = counted_by_setting(generations), counted(generations)

    for name in ("generations", "good", "suspect", "damaged", "not_judged", "requests_without_cost", "files"):
        assert sum(getattr(group, name) for group in groups) == getattr(whole, name)
    assert abs(sum(group.cost_usd for group in groups) - whole.cost_usd) < 1e-6
    assert whole.files == sum(len(each.verdicts) for each in generations)
    for model in {group.model for group in groups}:
        assert len([group for group in groups if group.model == model]) <= 13
    assert len({(group.model, group.setting) for group in groups}) == len(groups)


@given(
    st.text(min_size=1, max_size=80),
    st.sampled_from(
        ["prompt", "negative_prompt", "negativePrompt", "text", "lyrics", "script", "image_url", "imageUrl", "seed"]
    ),
)
def test_no_content_is_a_setting(content: str, name: str) -> None:
    """Neither in a batch's groups nor in the attribute of a metric, whatever it says."""
    inputs = {name: content, "resolution": "720p", "style": "a long and winding road", "size": "s3://bucket/key"}

    inputs |= {"scene": "\u96e8\u306e\u4e2d\u306e\u732b", "start": "cat.png", "width": 10**40}

    assert settings_of(inputs) == {"resolution": "720p"}
    assert main_label_of(inputs) == "resolution 720p"


def test_a_good_file_costs_what_all_of_them_cost() -> None:
    """Those that failed were paid for too; what is unknown is said, and no good file has no price."""
    made = [Judged("m", {}, ["good"], 0.3), Judged("m", {}, ["suspect"], 0.3), Judged("m", {}, [], None, 1)]

    assert counted(made).usd_per_good_file == 0.6
    assert counted(made).sentence == "1 good, 1 suspect; 0.6000 USD a good file, without 1 request of unknown cost"
    assert counted(made[1:]).usd_per_good_file is None
    unknown = counted([Judged("m", {}, ["good"], None, 1)])
    assert unknown.usd_per_good_file is None and "not known: of 1 request nothing is" in unknown.sentence
    assert counted([Judged("m", {}, ["good"], 0.0)]).usd_per_good_file == 0
    assert counted(made[1:]).sentence == "1 suspect; no file is good, so none has a price"
    assert counted([]).sentence == ""


def test_a_batch_counts_its_verdicts(command_line: CommandLine, sandbox: Sandbox, tmp_path: Path) -> None:
    """By the setting that differs; run again, it counts the same, and what an earlier attempt cost counts with it."""
    manifest = tmp_path / "rows.csv"
    manifest.write_text(
        "prompt,resolution,seed\nrain,480p,1\nsnow [sandbox: output=black],480p,2\n"
        "fog [sandbox: output=damaged_after],580p,3\n"
    )
    words = ("batch", str(manifest), "--bucket", command_line.bucket)
    with Sandbox(SandboxSettings(token=sandbox.token, run_seconds=0.2)) as large:
        there = {"RUNCOMFY_BASE_URL": large.url, "RUNCOMFY_OUTPUT_HOSTS": large.host}
        done = command_line.run(*words, "--json", **there)
        again = command_line.run(*words, **there)
        charged = large.books().usd_charged

    report = json.loads(done.stdout.splitlines()[-1])
    assert report["verdicts"] == {"good": 1, "suspect": 1, "damaged": 1, "not_judged": 0}
    assert report["usd_per_good_file"] == charged and report["requests_without_cost"] == 0
    by_setting = {group["setting"]: group for group in report["by_setting"]}
    (small,) = [group for setting, group in by_setting.items() if "480p" in setting]
    (large_one,) = [group for setting, group in by_setting.items() if "580p" in setting]
    assert (small["good"], small["suspect"], large_one["damaged"]) == (1, 1, 1)
    assert large_one["usd_per_good_file"] is None
    assert f"1 good, 1 suspect, 1 damaged; {charged:,.4f} USD a good file" in " ".join(again.stdout.split())
