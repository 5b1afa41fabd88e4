"""What a command does about a file that was judged: it is archived, and `on_defect` decides about the run."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.sandbox.objectstore import ObjectStore
from tests.runcomfy.cli.command_line import CommandLine, one_object


def test_a_run_fails_for_a_defect_only_if_it_is_to(command_line: CommandLine, sandbox: Sandbox) -> None:
    """The file is archived and recorded by then: nothing is paid for a second time, whatever is set."""
    words = ("text-to-video", "rain [sandbox: output=black]", "--bucket", command_line.bucket)

    failed = command_line.run(*words, code=16, RUNCOMFY_ON_DEFECT="fail")
    again = command_line.run(*words, code=16, RUNCOMFY_ON_DEFECT="FAIL")
    kept = one_object(command_line.run(*words, "--json"))

    assert "is archived, and suspect: The video is black for 100 %" in " ".join(failed.stderr.split())
    assert "DefectiveOutput" not in failed.stdout and "Traceback" not in failed.stderr + again.stderr
    (video,) = kept["videos"]
    assert video["quality"]["verdict"] == "suspect" and video["warnings"] == video["quality"]["reasons"]
    assert sandbox.books().submissions_accepted == 1


def test_a_wrong_setting_is_found_before_anything_is_paid_for(command_line: CommandLine, sandbox: Sandbox) -> None:
    """And a good file passes."""
    words = ("text-to-video", "rain", "--bucket", command_line.bucket, "--resolution", "480p")

    command_line.run(*words, code=3, RUNCOMFY_ON_DEFECT="throw")
    assert sandbox.books().submissions_accepted == 0
    with Sandbox(SandboxSettings(token=sandbox.token, run_seconds=0.2)) as large:  # as small as asked for, not smaller
        there = {"RUNCOMFY_BASE_URL": large.url, "RUNCOMFY_OUTPUT_HOSTS": large.host}
        command_line.run(*words, RUNCOMFY_ON_DEFECT="fail", **there)


@pytest.mark.slow
def test_a_row_of_a_batch_fails_for_its_defect(
    command_line: CommandLine, sandbox: Sandbox, object_store: ObjectStore, tmp_path: Path
) -> None:
    """Though it is archived; run again, the batch finds it."""
    manifest = tmp_path / "rows.csv"
    manifest.write_text("prompt\nrain [sandbox: output=black]\nsnow [sandbox: output=damaged_after]\n")

    done = command_line.run(
        "batch", str(manifest), "--bucket", command_line.bucket, "--json", code=14, RUNCOMFY_ON_DEFECT="fail"
    )
    again = command_line.run(
        "batch", str(manifest), "--bucket", command_line.bucket, "--json", RUNCOMFY_ON_DEFECT="fail"
    )

    report = json.loads(done.stdout.splitlines()[-1])
    assert report["counts"]["failed"] == 2
    bucket, _, key = report["results"].removeprefix("s3://").partition("/")
    client = object_store.session().client("s3", endpoint_url=object_store.endpoint_url)
    for row in csv.DictReader(io.TextIOWrapper(client.get_object(Bucket=bucket, Key=key)["Body"], "utf-8-sig")):
        assert row["uri"].startswith(command_line.bucket) and float(row["cost_usd"]) > 0
    assert json.loads(again.stdout.splitlines()[-1])["counts"] == {"existing": 2}
    assert sandbox.books().submissions_accepted == 2


@pytest.mark.slow
def test_a_contact_sheet_is_asked_for_by_option_or_environment(
    command_line: CommandLine, object_store: ObjectStore
) -> None:
    """It is beside the video, and nowhere without being asked for."""
    client = object_store.session().client("s3", endpoint_url=object_store.endpoint_url)
    words = ("--bucket", command_line.bucket, "--json")

    runs = {
        "option": command_line.run("text-to-video", "rain", *words, "--contact-sheets"),
        "environment": command_line.run("text-to-video", "snow", *words, RUNCOMFY_CONTACT_SHEETS="true"),
        "neither": command_line.run("text-to-video", "fog", *words),
    }

    for name, ended in runs.items():
        (video,) = one_object(ended)["videos"]
        found = client.list_objects_v2(Bucket=video["bucket"], Prefix=video["key"])["Contents"]
        assert (f"{video['key']}.sheet.jpg" in [each["Key"] for each in found]) is (name != "neither"), name
    command_line.run("text-to-video", "wind", *words, code=2, RUNCOMFY_CONTACT_SHEETS="perhaps")
