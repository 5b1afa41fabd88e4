"""`python -m runcomfy`: the command, as `prefect-runcomfy` runs it."""

from __future__ import annotations

import sys

from runcomfy.cli.__main__ import run

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(run())
