"""`make demo`: the real flow, on real components on this machine, from one image to one archived video.

A sandbox stands in for RunComfy, SeaweedFS for S3, and Prefect's temporary server for yours. Everything is in a
temporary folder, and your own Prefect is not touched; only the video and its provenance are kept.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from runcomfy.errors import RunComfyError

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
    with tempfile.TemporaryDirectory(prefix="runcomfy-demo-", ignore_cleanup_errors=True) as scratch:
        _use_temporary_prefect(Path(scratch))
        console.print("Starting an S3 server, a sandbox of RunComfy and a temporary Prefect server …", style="bold")
        # Prefect reads its settings when it is first imported, so it is imported after they are set.
        from deployments.demo_run import run

        asyncio.run(run(image or str(PICTURE), prompt or PROMPT, output, Path(scratch)))


def _use_temporary_prefect(home: Path) -> None:
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    os.environ |= {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
        "PREFECT_LOGGING_COLORS": "true" if sys.stderr.isatty() else "false",
        "DO_NOT_TRACK": "1",
    }


if __name__ == "__main__":
    try:
        app()
    except RunComfyError as error:
        sys.exit(f"{type(error).__name__}: {error}")
