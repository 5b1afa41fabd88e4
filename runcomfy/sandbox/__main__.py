"""The command line: `python -m runcomfy.sandbox` serves, `python -m runcomfy.sandbox faults` lists the faults."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Literal

from cyclopts import App, Parameter
from pydantic import ValidationError

from runcomfy.errors import ConfigurationError
from runcomfy.extras import needed
from runcomfy.sandbox import FAULTS, SandboxSettings, serving

__all__ = ["app"]

app = App(
    name="python -m runcomfy.sandbox",
    help="A local RunComfy: the Model API over real HTTP, with a queue, real videos, faults on demand, and a ledger.",
    help_epilogue="",
    version_flags=[],
    default_parameter=Parameter(negative=()),
)

_HELLO = """\
The sandbox listens on {url}, and its token is {token}

  curl -X POST {url}/v1/models/wan-ai/wan-2-1/text-to-video -H 'Authorization: Bearer {token}' \\
       -H 'Content-Type: application/json' -d '{{"prompt": "a lighthouse at dusk", "resolution": "480p"}}'
  curl '{url}/v1/requests/REQUEST_ID/result?include_cost=true' -H 'Authorization: Bearer {token}'
  curl {url}/sandbox/books

Ctrl-C stops it.
"""


@app.default
@app.command
def serve(
    *,
    port: int = 8188,
    token: str = "sandbox-token",  # noqa: S107 - it opens a sandbox on loopback
    slots: int = 2,
    queue_seconds: float = 0.0,
    run_seconds: float = 3.0,
    run_spread: float = 0.0,
    price_usd: float = 0.25,
    price_unit: Literal["output", "second"] = "output",
    opening_balance_usd: float = 1000.0,
    request_expiry_seconds: float | None = None,
    tiny_videos: bool = False,
    output_bytes: int = 0,
    seed: int = 0,
    fault: list[str] | None = None,
    models: Path | None = None,
    directory: Path | None = None,
    quiet: bool = False,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        port: Where to listen on 127.0.0.1; 0 takes a free port.
        token: The only bearer token that is let in.
        slots: How many requests run at once.
        queue_seconds: How long a request stays in the queue at the least.
        run_seconds: How long a request runs at the least.
        run_spread: How much that differs between requests; 0.05 is about 5 percent.
        price_usd: What each accepted submission is charged (a made-up price).
        price_unit: What the price is for: an output, or a second of video.
        opening_balance_usd: What the account holds at the start.
        request_expiry_seconds: How long after its end a request is still known; indefinitely if left out.
        tiny_videos: Render thumbnails in place of full sizes.
        output_bytes: Pad each video up to this size.
        seed: What random faults and durations are drawn from.
        fault: NAME[:ENDPOINT][=RATE], once for each fault; without a rate it strikes always.
        models: A folder with the catalogue entries of further models, a JSON file each (or pins).
        directory: Where rendered files go; a temporary folder if left out.
        quiet: Do not log a line for each call.
    """
    with needed("sandbox", "The sandbox"):
        import_module("runcomfy.sandbox.server")  # now: `prefect-runcomfy` has an exit code for what is not installed
    logging.basicConfig(level=logging.WARNING if quiet else logging.INFO, format="%(asctime)s %(message)s")
    try:
        settings = SandboxSettings(
            port=port, token=token, slots=slots, queue_seconds=queue_seconds, run_seconds=run_seconds,
            run_spread=run_spread, price_usd=price_usd, price_unit=price_unit, opening_balance_usd=opening_balance_usd,
            request_expiry_seconds=request_expiry_seconds, tiny_videos=tiny_videos, output_bytes=output_bytes,
            seed=seed, faults=tuple(fault or ()), models=models, directory=directory,
        )  # fmt: skip
        asyncio.run(_serve(settings))
    except ValidationError as error:
        wrong = "; ".join(f"{fact['loc'][0]}: {fact['msg']}" for fact in error.errors())
        sys.exit(f"The sandbox cannot start: {wrong}")
    except (ConfigurationError, OSError) as error:
        sys.exit(f"The sandbox cannot start: {error}")


@app.command
def faults() -> None:
    """List the faults that can be asked for."""
    from rich.console import Console
    from rich.table import Table

    table = Table("fault", "what happens", "where", "scope", "parameters", box=None, pad_edge=False)
    for entry in FAULTS.values():
        parameters = ", ".join(f"{name}={value}" for name, value in entry.parameters.items())
        table.add_row(entry.name, entry.about, ", ".join(entry.endpoints), entry.scope, parameters)
    Console().print(table)


async def _serve(settings: SandboxSettings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(settings) as api:
        print(_HELLO.format(url=api.url, token=settings.token), flush=True)
        await stop.wait()


if __name__ == "__main__":
    try:
        app()
    except ConfigurationError as error:
        sys.exit(str(error))
