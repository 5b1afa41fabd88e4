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

__all__ = ["app"]

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
    console = Console(stderr=True)
    scratch = tempfile.mkdtemp(prefix="runcomfy-demo-")  # the run removes it
    console.print("Starting an S3 server, a sandbox of RunComfy and a temporary Prefect server …", style="bold")
    # Prefect reads its settings when it is first imported, which importing the installed package has done already: so
    # this process begins once more, with others.
    words = [
        sys.executable,
        "-m",
        "deployments.demo_run",
        image or str(PICTURE),
        prompt or PROMPT,
        str(output),
        scratch,
    ]
    os.execve(sys.executable, words, _with_temporary_prefect(Path(scratch)))  # noqa: S606 - our own program


def _with_temporary_prefect(home: Path) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
        "PREFECT_LOGGING_COLORS": "true" if sys.stderr.isatty() else "false",
        "DO_NOT_TRACK": "1",
    }


if __name__ == "__main__":
    app()
