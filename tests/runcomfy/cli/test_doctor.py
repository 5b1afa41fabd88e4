"""`doctor`: account, bucket, signing, journal and clock, by environment and options alone."""

from __future__ import annotations

import json

from tests.runcomfy.cli.command_line import CommandLine


def test_a_healthy_set_up_says_so_in_its_last_line(command_line: CommandLine) -> None:
    """Of a Prefect server it says nothing, whether one is set or not."""
    where = ("--bucket", command_line.bucket)

    lines = command_line.run("doctor", *where, PREFECT_API_URL="http://127.0.0.1:9/api").stdout.splitlines()

    assert lines[-1] == "All is well: 20 ok. Nothing was paid for."
    assert len(lines) == 21 and all(line.startswith("ok ") for line in lines[:-1])
    assert "prefect" not in command_line.modules("doctor", *where)


def test_missing_settings_end_with_code_3_and_valid_json(command_line: CommandLine) -> None:
    """No token, no bucket: one finding each with its fix, and the rest is a consequence."""
    said = json.loads(command_line.run("doctor", "--json", code=3, RUNCOMFY_API_TOKEN=None).stdout)

    assert said["healthy"] is False
    broken = {finding["name"]: finding["advice"] for finding in said["findings"] if finding["mark"] == "broken"}
    assert broken.keys() == {"credentials", "store"}
    assert "RUNCOMFY_API_TOKEN" in broken["credentials"] and "--bucket" in broken["store"]


def test_settings_that_cannot_be_used_are_broken(command_line: CommandLine) -> None:
    """Each is named by its option or variable; a token that is refused is one finding more."""
    done = command_line.run(
        "doctor", "--bucket", "https://example.com/videos", "--json", code=3, RUNCOMFY_OUTPUT_HOSTS="https://*"
    )
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert "RUNCOMFY_OUTPUT_HOSTS" in found["credentials"]["found"] and "--bucket" in found["store"]["found"]

    done = command_line.run(
        "doctor", "--bucket", command_line.bucket, "--journal", "nowhere", "--json",
        code=3, RUNCOMFY_API_TOKEN="wrong-token",
    )  # fmt: skip
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert [name for name, finding in found.items() if finding["mark"] == "broken"] == ["token", "store"]
