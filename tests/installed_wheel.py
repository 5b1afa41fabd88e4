"""What `make test-python` runs in an environment that has only the wheel and its sandbox: a program, and no test file.

One generation by the command, one flow on a temporary Prefect server, and what is said where an extra is missing.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.sandbox.objectstore import running_object_store

BIN = Path(sys.executable).parent


def run(folder: Path, *words: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one of the programs of this environment in an empty folder; end with its output if it ends otherwise."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PREFECT_", "AWS_"))}
    done = subprocess.run(
        [BIN / words[0], *words[1:]], cwd=folder, env=kept | {"HOME": str(folder)} | variables, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode != code:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}, not {code}:\n{done.stdout}{done.stderr}")
    return done


def main() -> None:
    """Do all of it, and print what was done."""
    with (
        tempfile.TemporaryDirectory() as name,
        running_object_store() as server,
        Sandbox(SandboxSettings(run_seconds=0.2, tiny_videos=True)) as sandbox,
    ):
        folder = Path(name)
        settings = {
            "RUNCOMFY_API_TOKEN": sandbox.token, "RUNCOMFY_BASE_URL": sandbox.url,
            "RUNCOMFY_OUTPUT_HOSTS": sandbox.host, "RUNCOMFY_BUCKET": "s3://videos/check",
            "AWS_ENDPOINT_URL_S3": server.endpoint_url, "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key, "AWS_REGION": "us-east-1",
        }  # fmt: skip
        words = ("prefect-runcomfy", "text-to-video", "Rain on a window at night", "--json")
        first, again = (json.loads(run(folder, *words, **settings).stdout) for _ in range(2))
        assert first["videos"][0]["uri"] == again["videos"][0]["uri"].strip(), (first, again)
        assert sandbox.books().submissions_accepted == 1
        said = run(folder, "prefect-runcomfy", "catalogue", code=3, **settings).stderr
        assert 'run `pip install "prefect-runcomfy[parquet]"`' in said, said
        run(folder, "python", "-m", "prefect_runcomfy.deployments.demo")
        made = sorted(each.suffix for each in (folder / "demo-output").iterdir())
        assert made == [".json", ".mp4"], made
    versions = f"Python {platform.python_version()}, Prefect {metadata.version('prefect')}"
    print(f"{versions}: the wheel made a video by the command, and one by a flow.")


if __name__ == "__main__":
    main()
