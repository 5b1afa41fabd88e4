"""Every command where Prefect is not installed: its process finds none of it, and so loads none of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runcomfy.sandbox import Sandbox
from runcomfy.sandbox.objectstore import ObjectStore
from tests.runcomfy.cli.command_line import ROOT, CommandLine
from tests.runcomfy.journal.making import accepted_elsewhere

PROGRAM = """
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("prefect", "prefect_aws", "blocks", "tasks", "flows", "deployments"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
from runcomfy.cli.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def run(command_line: CommandLine, *words: str, code: int = 0, **more: str) -> dict[str, Any]:
    """Run a command with `--json` in an interpreter that finds no Prefect, and return the object that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words, "--json"],
        cwd=ROOT, env=command_line.environment | more, capture_output=True, text=True, timeout=300, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.slow
def test_every_command_works(
    command_line: CommandLine, sandbox: Sandbox, object_store: ObjectStore, tmp_path: Path, prefix: str
) -> None:
    """From the first generation to the report, all on one bucket and one journal."""
    where = ("--bucket", command_line.bucket)
    bucket = object_store.session().client("s3", endpoint_url=object_store.endpoint_url)
    image = ROOT / "deployments" / "demo.jpg"

    made = run(command_line, "image-to-video", str(image), "a boat", *where)
    assert len(made["videos"]) == 1
    assert run(command_line, "text-to-video", "rain", *where)["cost_usd"] == 0.25
    assert run(command_line, "status", made["request_id"])["state"] == "succeeded"
    assert run(command_line, "fetch", made["request_id"], *where)["videos"][0]["already_archived"]
    assert run(command_line, "balance")["balance_usd"] == 999.5

    manifest = tmp_path / "rows.csv"
    manifest.write_text("prompt\nrain\nsnow\nhail\n")
    batch = run(command_line, "batch", str(manifest), *where)
    assert (batch["archived"], batch["counts"]) == (3, {"existing": 1, "archived": 2})

    bucket.put_object(Bucket="images", Key=f"{prefix}/boat.jpg", Body=image.read_bytes())
    inbox = run(command_line, "inbox", f"s3://images/{prefix}", "--prompt", "it sinks", *where)
    assert [one["fate"] for one in inbox["received"]] == ["archived"]

    sandbox.inject("lost_answer", endpoint="submit", times=2)
    lost = [run(command_line, "text-to-video", prompt, *where, code=9) for prompt in ("thunder", "lightning")]
    listed = run(command_line, "journal", "list", *where)["generations"]
    assert {each["generation_key"] for each in listed} == {each["generation_key"] for each in lost}
    key, other = (each["generation_key"] for each in lost)
    assert run(command_line, "journal", "show", key[:12], *where)["state"] == "uncertain"
    thunder = next(each.id for each in sandbox.books().requests if each.inputs.get("prompt") == "thunder")
    assert run(command_line, "journal", "adopt", key, thunder, *where)["request_id"] == thunder
    assert run(command_line, "journal", "release", other, "--yes", *where)["state"] == "released"

    late = run(command_line, "text-to-video", "late", "--run-timeout-seconds", "0.01", *where, code=6)
    sandbox.wait_for_end(late["request_id"])
    found = run(command_line, "reconcile", "--abandoned-after-seconds", "0", *where)
    assert list(found["collected"]) == [late["generation_key"]]

    assert run(command_line, "catalogue", *where)["days"]
    assert run(command_line, "report", "--output", str(tmp_path / "page.html"), *where)["page"]
    assert run(command_line, "doctor", *where)["healthy"]
    sandbox.hold()
    assert run(command_line, "cancel", accepted_elsewhere(sandbox))["outcome"] == "cancelled"


def test_the_sandbox_is_handed_on_to(command_line: CommandLine) -> None:
    """With its own commands and options."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "sandbox", "faults"],
        cwd=ROOT, env=command_line.environment, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert "lost_answer" in done.stdout
