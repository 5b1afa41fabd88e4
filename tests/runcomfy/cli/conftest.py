"""The command in an environment of its own."""

from __future__ import annotations

from tests.runcomfy.cli.command_line import prefect_runcomfy, surroundings

__all__ = ["prefect_runcomfy", "surroundings"]
