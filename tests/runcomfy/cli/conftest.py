"""The command in an environment of its own."""

from __future__ import annotations

from tests.runcomfy.cli.command_line import command_line

__all__ = ["command_line"]
