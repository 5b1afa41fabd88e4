"""Texts from people and programs: normalised, and refused where they are empty or placeholders.

Spreadsheets, editors and other systems store one text in several forms (line ends, composed or decomposed letters,
blanks at the ends). Only the normal form is sent and goes into a generation's key, so that the same text is paid for
once. The original form is kept too, because earlier versions put that into the key.

Spreadsheets and data frames also change whole numbers: a seed that lost its last digits makes a different video, which
is paid for. So a number that may have been changed stays a text, and is refused.
"""

from __future__ import annotations

import codecs
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

__all__ = [
    "Text",
    "as_given",
    "encoding_of",
    "exact_below",
    "in_digits",
    "is_placeholder",
    "is_written",
    "json_integer",
    "json_number",
    "normal_text",
    "prompt_of",
    "said_by",
    "shown",
    "unusable",
    "unwritable",
    "whole_number",
    "why_not_whole",
]

# Unicode's newline guidelines (section 5.8), except its own separators of lines and paragraphs, which stay.
_LINE_ENDS: Final = re.compile("\r\n|[\r\v\f\x85]")
_ENDS: Final = "".join(c for c in map(chr, range(0x3001)) if c.isspace()) + "\u200b\u2060\ufeff"
_CONTROL: Final = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")
# Displayed as nothing, or as a replacement character, although their categories are those of letters and symbols.
_INVISIBLE: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0\ufffc\ufffd")
_RESERVED: Final = ((0x2065, 0x2065), (0xFFF0, 0xFFF8), (0xE0000, 0xE0FFF))
"""Unassigned code points that Unicode reserves for more characters that are not displayed."""

_WRAPPERS: Final = " \"'`()[]{}<>"
_PLACEHOLDERS: Final = (
    "nan", "-nan", "+nan", "nat", "none", "null", "nil", "undefined", "na", "n/a", "n.a.", "n/v", "n/d", "n/a n/a",
    "inf", "-inf", "+inf", "infinity", "-infinity", "true", "false", "blank", "empty", "missing", "tbd", "tba", "todo",
    "fixme", "xxx", "\\n", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "#na", "#nv", "#n/a", "#n/d", "#n/v", "#n/a n/a",
    "not available", "object object",
)  # fmt: skip
# `#REF!`, `#BEZUG!`, `#NOMBRE?`, `#DIV/0!`, and what LibreOffice shows.
_SPREADSHEET_ERROR: Final = re.compile(r"#[^\s#]+[!?]|#getting_data|err:\d+", re.IGNORECASE)
_FORMULA: Final = re.compile(r"=\s*[^\s=].*|[+@-]\s*[a-z][a-z0-9.]*\(.*\)", re.IGNORECASE | re.DOTALL)


_LONGEST_SETTING: Final = 60  # characters
_PROMPTS: Final = ("prompt", "text", "tags", "lyrics", "script", "description", "instruction", "caption")


def prompt_of(inputs: Mapping[str, Any] | None) -> str | None:
    """Return the text that says what to make, as people call a generation by it; `None` if there is none.

    Few models call it other than `prompt`: `text`, `tags` and `lyrics` were seen.
    """
    found = (inputs.get(name) for name in _PROMPTS) if inputs else ()
    return next((text for text in found if isinstance(text, str) and text.strip()), None)


def is_written(value: Any) -> bool:
    """Whether a value, or one within it, may be a text that a person wrote: it is of several words, or long."""
    match value:
        case str():
            return len(value.split()) > 1 or len(value) > _LONGEST_SETTING
        case list():
            return any(map(is_written, value))
        case dict():
            return any(map(is_written, value.values()))
    return False


_SENTENCES: Final = ("message", "error_message", "detail", "error", "msg", "reason")
_NAMES: Final = ("type", "code", "error_code", "name")


def said_by(value: Any, most: int) -> str:
    """Return what another system said about an error, in any shape: its sentence, with the error's name if it has one.

    Args:
        value: A text, or parsed JSON.
        most: How many characters to return at most.
    """
    if isinstance(value, Mapping):
        sentence = next((value[name] for name in _SENTENCES if isinstance(value.get(name), str) and value[name]), None)
        called = next((value[name] for name in _NAMES if isinstance(value.get(name), str | int) and value[name]), None)
        if sentence is not None:
            return sentence[:most] if called is None else f"{sentence[:most]} ({called})"[: most + 100]
    return shown(value, most)


def shown(value: Any, most: int) -> str:
    """Return a value for people to read: a text as it is, anything else as JSON and never as Python writes it.

    Args:
        value: A text, or parsed JSON.
        most: How many characters to return at most.
    """
    if isinstance(value, str):
        return value[:most]
    try:
        return json.dumps(value, ensure_ascii=False, default=str)[:most]
    except (ValueError, TypeError, RecursionError):
        return "a value that cannot be shown"


class Text(str):
    """A text in its normal form that was given in another one."""

    raw: str
    """As it was given."""


def normal_text(text: str) -> str:
    r"""Return a text in its normal form: NFC, lines ended by `\n`, no blanks at its ends.

    The result is a `Text` with the given form as `raw` if that differs; otherwise the text itself.
    """
    normal = unicodedata.normalize("NFC", _LINE_ENDS.sub("\n", text)).strip(_ENDS)
    raw = as_given(text)
    if normal == raw:
        return raw
    changed = Text(normal)
    changed.raw = raw
    return changed


def as_given(text: str) -> str:
    """Return the form in which a text was given."""
    return text.raw if isinstance(text, Text) else text


def unusable(text: str) -> str:
    """Return why a text cannot be a prompt of any model; an empty text if it can.

    Args:
        text: In its normal form, without lone surrogates.
    """
    if all(map(_is_blank, text)):
        return "it says nothing: it is empty, or of blanks, control and other invisible characters only"
    if found := _CONTROL.search(text):
        name = "the NUL character" if found[0] == "\0" else f"the control character U+{ord(found[0]):04X}"
        return f"it holds {name}, which no text has on purpose; take it out, or write the text again"
    return ""


def unwritable(text: str) -> str:
    """Return why a text cannot be written where every system reads it again; an empty text if it can.

    JSON in UTF-8 has no lone surrogate (RFC 3629), and a byte that is not in the encoding of the terminal or the file
    system becomes one in Python. PostgreSQL stores no NUL in texts or JSON (its manual, 8.14); C programs end there.
    """
    half = next((character for character in text if "\ud800" <= character <= "\udfff"), None)
    if half is not None:
        return (
            f"it is not valid Unicode: it holds half of a character (U+{ord(half):04X}), as a text or a file name in "
            "another encoding does; write it again"
        )
    if "\0" in text:
        return "it holds the NUL character, which no text has on purpose; take it out, or write the text again"
    return ""


def in_digits(number: float) -> str:
    """Return a number as people write it: all digits of a whole one."""
    return f"{number:g}" if isinstance(number, float) and not number.is_integer() else f"{int(number)}"


def is_placeholder(text: str) -> bool:
    """Whether the whole text is a placeholder for a missing one.

    That is `nan`, `None`, `null`, `TRUE`, `TODO` and the like, a spreadsheet's error or formula, and a text with
    neither a letter nor a symbol such as an emoji: numbers, dates, dashes.
    """
    bare = text.strip(_WRAPPERS).casefold()
    if bare in _PLACEHOLDERS or text.casefold() in _PLACEHOLDERS:
        return True
    if _SPREADSHEET_ERROR.fullmatch(bare) or _FORMULA.fullmatch(text):
        return True
    return not any(unicodedata.category(c)[0] == "L" or unicodedata.category(c) in ("So", "Cn") for c in text)


def _is_blank(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Cn":  # a character of a newer Unicode than this Python's, or unassigned
        code = ord(character)
        return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF or any(a <= code <= b for a, b in _RESERVED)
    # Separators; controls, formats, private ones; marks, which need a letter.
    return category[0] in "ZCM" or character in _INVISIBLE


_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),  # before UTF-16: its mark begins as that does
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


def encoding_of(data: bytes) -> str:
    """Return the encoding that the first bytes of a text file show, as Python names it: UTF-8, UTF-16 or UTF-32.

    By the byte order mark (the Unicode Standard, section 23.8); without one, by the zero bytes of UTF-16, where every
    other byte of a text that begins in ASCII is zero.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    even, odd = data[:16:2].count(0), data[1:16:2].count(0)
    if 0 in (even, odd) and 2 * max(even, odd) > len(data[1:16:2]) > 1:
        return "utf-16-be" if even else "utf-16-le"
    return "utf-8"


_SCIENTIFIC: Final = re.compile(r"[+-]?\d+([.,]\d*)?\s*[eE]\s*[+-]?\d+")
_GROUPED: Final = re.compile(r"[+-]?\d{1,3}([.,'\u2019 \u00a0\u202f_]\d{3})+([.,]\d*)?")
_DECIMAL: Final = re.compile(r"-?\d+\.0+")
_MOST_DIGITS: Final = 300  # Python itself refuses to convert very long ones (sys.set_int_max_str_digits)
_MANTISSA_BITS: Final = {16: 11, 32: 24, 64: 53}


def exact_below(bits: int = 64) -> int:
    """Return the integer from which on a float of so many bits may have been another integer."""
    return int(2 ** _MANTISSA_BITS[bits])


def whole_number(text: str) -> Any:
    """Return the integer in a text such as `81` or `81.0`; the text itself if it may have been another integer."""
    if _DECIMAL.fullmatch(text) and not why_not_whole(text):
        return int(text.partition(".")[0])
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, int) and not isinstance(value, bool) else text


def why_not_whole(text: str) -> str:
    """Return how a number was changed before it became this text; an empty text if it was not, as far as is known."""
    if _SCIENTIFIC.fullmatch(text):
        return (
            f"{text[:40]} is what a spreadsheet makes of a long number, and digits may be lost. Write all of them; in "
            "a spreadsheet, format the column as text, or as a number without decimals"
        )
    if _GROUPED.fullmatch(text):
        return "Input should be a whole number, written in digits only: here are separators between them"
    if _DECIMAL.fullmatch(text) and (len(text) > _MOST_DIGITS or abs(int(text.partition(".")[0])) >= exact_below()):
        return f"{text[:40]} may have been rounded: a decimal number is exact below 2^53 only. Write it without a point"
    return ""


def json_integer(digits: str) -> int:
    """Parse a JSON number without a point or an exponent; `ValueError` for one of more than 300 digits."""
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number has more than {_MOST_DIGITS} digits; write a shorter one")
    return int(digits)


def json_number(text: str) -> float | str:
    """Parse a JSON number with a point or an exponent; one with an exponent stays a text, to be checked as one."""
    return text if "e" in text.lower() else float(text)
