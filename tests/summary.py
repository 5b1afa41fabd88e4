"""What tests show at the end of a session, whichever process they ran in: one section a subject."""

from __future__ import annotations

import pytest

__all__ = ["SUMMARY", "section"]

SUMMARY = pytest.StashKey[dict[str, list[str]]]()


def section(config: pytest.Config, title: str) -> list[str]:
    """Return the lines of a section, to be added to."""
    return config.stash.setdefault(SUMMARY, {}).setdefault(title, [])
