"""`make demo`: the real flow, on real components on this machine, from one image to one archived video.

A sandbox stands in for RunComfy, SeaweedFS for S3, and Prefect's temporary server for yours. Everything is in a
temporary folder, and your own Prefect is not touched; only the video and its provenance are kept.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from deployments.entry import run_entry
from runcomfy.cli.streams import as_process
from runcomfy.errors import ConfigurationError, InvalidInput
from runcomfy.texts import normal_text, unusable, unwritable

__all__ = ["app", "main"]

PICTURE = Path(__file__).parent / "demo.jpg"
PROMPT = "The boat drifts across the lake while the sun goes down behind the mountains"

app = App(name="python -m deployments.demo", help=__doc__, version_flags=())


@app.default
def demo(
    *,
    image: Annotated[str, Parameter(env_var="IMAGE", help="A local path or an https:// URL.")] = str(PICTURE),
    prompt: Annotated[str, Parameter(env_var="PROMPT", help="What happens in the video.")] = PROMPT,
    output: Annotated[Path, Parameter(help="Where the video is put.")] = Path("demo-output"),
) -> None:
    """Make one video from one image, and show what happened."""
    _check("PROMPT (--prompt)", prompt, f'such as "{PROMPT[:36]}"')
    _check("IMAGE (--image)", image, "such as photo.jpg")
    _check_writable(output)
    console = Console(stderr=True)
    scratch = tempfile.mkdtemp(prefix="runcomfy-demo-")  # the run removes it
    console.print("Starting an S3 server, a sandbox of RunComfy and a temporary Prefect server …", style="bold")
    # Prefect reads its settings when it is first imported, which importing the installed package has done already: so
    # this process begins once more, with others.
    words = [
        sys.executable,
        "-m",
        "deployments.demo_run",
        image,
        prompt,
        str(output),
        scratch,
    ]
    os.execve(sys.executable, words, _with_temporary_prefect(Path(scratch)))  # noqa: S606 - our own program


def _check(name: str, text: str, example: str) -> None:
    reason = unwritable(text) or unusable(normal_text(text))
    if reason:
        raise InvalidInput(f"{name} cannot be used: {reason}. Give one, {example}, or leave it out for the demo's own.")


def _check_writable(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"{output} cannot be written to ({error.strerror}), and the video is put there: name another folder with "
            "--output, or start it where you may write."
        ) from None


def _with_temporary_prefect(home: Path) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
        "PREFECT_LOGGING_COLORS": "true" if sys.stderr.isatty() else "false",
        "DO_NOT_TRACK": "1",
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the demo, and return the process's exit code, as `prefect-runcomfy` has them."""
    return run_entry(app, arguments, interrupted="Interrupted; what it had started is stopped, and nothing was paid.")


if __name__ == "__main__":
    sys.exit(as_process(main))
