"""Whole numbers as texts have them, and those that a spreadsheet or a data frame has changed on the way.

A seed that lost its last digits makes another video than the one that was wanted, and is paid for.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

__all__ = ["exact_below", "json_number", "whole_number", "why_not_whole"]

_SCIENTIFIC: Final = re.compile(r"[+-]?\d+([.,]\d*)?\s*[eE]\s*[+-]?\d+")
_GROUPED: Final = re.compile(r"[+-]?\d{1,3}([.,'\u2019 \u00a0\u202f_]\d{3})+([.,]\d*)?")
_DECIMAL: Final = re.compile(r"-?\d+\.0+")
_MANTISSA_BITS: Final = {16: 11, 32: 24, 64: 53}


def exact_below(bits: int = 64) -> int:
    """Return up to where a float of so many bits is exact: from there on it may have been another integer."""
    return int(2 ** _MANTISSA_BITS[bits])


def whole_number(text: str) -> Any:
    """Return the integer that a text stands for, such as `81` or `81.0`; the text itself where that is not sure."""
    if _DECIMAL.fullmatch(text) and not why_not_whole(text):
        return int(text.partition(".")[0])
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, int) and not isinstance(value, bool) else text


def why_not_whole(text: str) -> str:
    """Say what happened to a number on its way into this text; an empty text where nothing is known to have."""
    if _SCIENTIFIC.fullmatch(text):
        return (
            f"{text[:40]} is what a spreadsheet makes of a long number, and digits may be lost. Write all of them; in "
            "a spreadsheet, format the column as text, or as a number without decimals"
        )
    if _GROUPED.fullmatch(text):
        return "Input should be a whole number, written in digits only: here are separators between them"
    if _DECIMAL.fullmatch(text) and abs(int(text.partition(".")[0])) >= exact_below():
        return f"{text[:40]} may have been rounded: a decimal number is exact below 2^53 only. Write it without a point"
    return ""


def json_number(text: str) -> float | str:
    """Read a number of JSON that has a point or an exponent; one with an exponent stays a text, to be judged as one."""
    return text if "e" in text.lower() else float(text)
