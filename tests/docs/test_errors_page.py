"""The page about errors, compared with the code and the fault table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runcomfy import errors
from runcomfy.cli.output import INTERRUPTED, UNEXPECTED, exit_code
from tests.runcomfy.fault_table import ARCHIVED, TABLE

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
CLASSES = {row[0].strip("`"): row for row in ROWS if row[0].startswith("`")}
KINDS = [name for name in errors.__all__ if isinstance(getattr(errors, name), type)]


@pytest.mark.parametrize("name", KINDS)
def test_every_error_is_on_the_page(name: str) -> None:
    """With its right exit code, and whether it may be repeated."""
    kind = getattr(errors, name)
    repeatable, code = CLASSES[name][-2:]

    assert code == str(exit_code(kind("It broke.")))
    assert repeatable == ("yes" if kind.retryable else "no")


def test_the_page_names_no_other_error() -> None:
    """A removed error is removed from the page as well."""
    assert set(CLASSES) == set(KINDS)
    assert f"1 anything that is not in the table, {INTERRUPTED} an interruption" in PAGE
    assert UNEXPECTED == 1


@pytest.mark.parametrize("endpoint", sorted({case.endpoint for case in TABLE}))
def test_the_outcomes_of_each_call_are_those_of_the_fault_table(endpoint: str) -> None:
    """The page's short table names the same errors as the long one that is tested."""
    said = {name for row in ROWS if row[0] == endpoint for name in re.findall(r"`(\w+)`", " ".join(row[2:4]))}
    meant = {getattr(case.outcome, "__name__", "") for case in TABLE if case.endpoint == endpoint} - {""}

    assert said == meant
    assert any(ARCHIVED in row[2] for row in ROWS if row[0] == endpoint) == any(
        case.outcome == ARCHIVED for case in TABLE if case.endpoint == endpoint
    )
