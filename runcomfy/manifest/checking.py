"""Make orders from the records of a table, and find everything that is wrong with any of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from runcomfy.errors import InvalidInput
from runcomfy.manifest.location import Location
from runcomfy.manifest.rows import BadRow, Row, place_of
from runcomfy.manifest.table import IGNORED, Names, Table, shown, too_long
from runcomfy.models import ModelInputs, default_model, short_name
from runcomfy.models.cells import Nested
from runcomfy.models.columns import OF_ANY_MODEL, input_of, named_model, unknown_field
from runcomfy.models.orders import Kinds, Order, read_order
from runcomfy.redaction import redact
from runcomfy.texts import is_placeholder, normal_text

__all__ = ["check_table", "is_empty", "unknown_name"]

_TEXTS = frozenset(("image", "model", "prompt", "variation"))
_LONGEST_SENTENCE = 300
_LONGEST_VALUE = 40
_IN_OTHER_WORDS = {
    "Input should be a valid boolean": "Input should be true or false",
    "Input should be a valid integer": "Input should be a whole number",
}

_PLACEHOLDER = (
    "it is not a prompt, but what programs write for an empty or broken cell (nan, None, #REF!, a formula, a number); "
    "write one, or allow such prompts with allow_placeholder_prompts"
)

_EMPTY_MEDIUM = (
    "it is empty, and other rows of the same model have one; name one. Rows that are to have none belong into a "
    "manifest without this column, in JSON Lines without this name"
)

Violation = tuple[str, str]


def check_table(
    table: Table,
    location: Location,
    defaults: Mapping[str, Any],
    kinds: Kinds,
    known: Names,
    *,
    allow_placeholders: bool = False,
) -> tuple[tuple[Row, ...], tuple[BadRow, ...]]:
    """Return the rows that can be generated, and what is wrong with the others and with the names of the columns.

    Args:
        table: What was read.
        location: Where it is.
        defaults: What counts where a row gives nothing.
        kinds: The models of the catalogue that rows name.
        known: What columns may be called.
        allow_placeholders: Whether a prompt may be what programs write where there is none (`nan`, `#REF!`).
    """
    # What a model that does not exist would know cannot be said.
    are_known = not any(isinstance(kind, InvalidInput) for kind in kinds.values())
    unknown = {name for name in table.columns if are_known and name not in known and name not in IGNORED}
    problems = _unknown_columns(table, unknown, known, uses_counted=location.format == "jsonl")
    # An image cell that was left empty by mistake must not become a video of the prompt alone.
    image_or_model = defaults.keys().isdisjoint(("image", "model")) and any(
        isinstance(image := record.values.get("image"), str) and image.strip() for record in table.records
    )
    with_media = _media_given(table, defaults, kinds)
    rows: list[Row] = []
    first: dict[str, int] = {}
    for record in table.records:
        if record.problem:
            problems[record.line].append(record.problem)
            continue
        source = {name: value for name, value in record.values.items() if name in known}
        model_id = _model_of(record.values, defaults)
        order, found = _order(
            source, location, defaults, kinds, image_or_model=image_or_model, of_catalogue=model_id in kinds
        )
        # So must no cell of a medium that a model can do without.
        found += [
            (name, _EMPTY_MEDIUM)
            for name, medium in _media_cells(source, kinds.get(model_id))
            if order and is_empty(source[name]) and (model_id, medium) in with_media and medium not in order.media()
        ]
        if order and not allow_placeholders:
            found += [(name, _PLACEHOLDER) for name, text in _texts_of(order) if is_placeholder(normal_text(text))]
        if order and (line := first.setdefault(order.identity(), record.line)) != record.line:
            found.append(("variation", _repeated(place_of(location.format, line))))
        if found:
            problems[record.line] += (f"{field}: {_worded(sentence, source.get(field))}" for field, sentence in found)
        elif order and unknown.isdisjoint(record.values):
            rows.append(Row(line=record.line, order=order, source=source))
    return tuple(rows), tuple(BadRow(line=line, problems=tuple(problems[line])) for line in sorted(problems))


def is_empty(value: Any) -> bool:
    """Whether a value counts as not given."""
    return value is None or (isinstance(value, str) and not value.strip())


def unknown_name(name: str, known: Names) -> str:
    """Return the sentence for a name that is unknown, with the one that may be meant, as `read_order` does."""
    return f"{shown(name)}: {unknown_field(name, known.fields)}"


def _model_of(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    return named_model(values.get("model") or defaults.get("model"))


def _media_cells(values: Mapping[str, Any], kind: type[ModelInputs] | InvalidInput | None) -> Iterator[tuple[str, str]]:
    """Yield each name in a row that means a medium of a model of the catalogue, with the input that it means."""
    if kind is not None and not isinstance(kind, InvalidInput):
        for name in values:
            if (medium := input_of(kind, name)) in kind.media and medium is not None:
                yield name, medium


def _media_given(table: Table, defaults: Mapping[str, Any], kinds: Kinds) -> set[tuple[str, str]]:
    """Return the media that some rows give, each with the model of the row."""
    return {
        (model_id, medium)
        for record in (table.records if kinds else ())
        for model_id in (_model_of(record.values, defaults),)
        for name, medium in _media_cells(record.values, kinds.get(model_id))
        if not is_empty(record.values[name]) and str(record.values[name]).strip() != "[]"
    }


def _unknown_columns(
    table: Table, unknown: set[str], known: Names, *, uses_counted: bool
) -> defaultdict[int, list[str]]:
    """Return the problems of unknown names, by line: one for each name, however many rows have it."""
    uses = Counter(name for record in table.records for name in unknown & record.values.keys())
    problems: defaultdict[int, list[str]] = defaultdict(list)
    for name, line in table.columns.items():
        if name in unknown:
            others = f" (and in {uses[name] - 1:,} more rows)" if uses_counted and uses[name] > 1 else ""
            problems[line].append(unknown_name(name, known) + others)
    return problems


def _order(
    source: Mapping[str, Any],
    location: Location,
    defaults: Mapping[str, Any],
    kinds: Kinds,
    *,
    image_or_model: bool,
    of_catalogue: bool,
) -> tuple[Order | None, list[Violation]]:
    """Return what a row asks for, or everything that is wrong with it."""
    values = dict(source)
    found = [
        (name, sentence) for name, value in source.items() if (sentence := _misfit(name, value, any_type=of_catalogue))
    ]
    image = None if of_catalogue else source.get("image")
    if isinstance(image, str) and image.strip():
        try:
            values["image"] = location.file(image.strip(), "an image")
        except ValueError as error:
            found.append(("image", str(error)))
    elif not of_catalogue and image_or_model and is_empty(image) and is_empty(source.get("model")):
        without = short_name(default_model(image=False))
        found.append(("image", f"it is missing, and other rows have one; name one, or {without} as the model"))
    try:
        order = read_order(values, defaults, kinds, locate=lambda name: location.file(name.strip()))
    except InvalidInput as error:
        named = {name for name, _ in found}
        return None, found + [(name, sentence) for name, sentence in error.violations or () if name not in named]
    return (None if found else order), found


def _misfit(name: str, value: Any, *, any_type: bool) -> str:
    """Return why a value cannot be used under this name; an empty text if it can.

    Args:
        name: The column.
        value: The cell.
        any_type: Whether the row's model says itself which types its inputs have.
    """
    any_type = any_type and name not in OF_ANY_MODEL
    if isinstance(value, Nested):
        return "" if any_type else "a list or an object is not allowed here; give a text, a number, true or false"
    if isinstance(value, str):
        if "\0" in value:
            return "the text holds a NUL character; take it out"
        if sentence := too_long(value):
            return sentence
        return "" if value.isascii() or _is_unicode(value) else "the text holds half a character; write it again"
    numbered = name == "variation" and not isinstance(value, bool)
    if value is not None and name in _TEXTS and not numbered and not any_type:
        return "it is not a text; write it as one"
    return ""


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _worded(sentence: str, value: Any) -> str:
    """Return a sentence in the words of those who write tables, with what a number or a choice was given as."""
    worded = _IN_OTHER_WORDS.get(sentence, sentence)[:_LONGEST_SENTENCE]
    if worded.startswith("Input should be") and isinstance(value, str | int | float):
        given = shown(redact(str(value)))
        worded += f" (it is {given[:_LONGEST_VALUE]}{'…' if len(given) > _LONGEST_VALUE else ''})"
    return worded


def _texts_of(order: Order) -> list[tuple[str, str]]:
    """Return the free texts of an order, which are what is made."""
    if order.kind is None:
        return [("prompt", order.prompt)]
    return [(name, text) for name in order.kind.texts if isinstance(text := order.settings.get(name), str) and text]


def _repeated(place: str) -> str:
    return f"the same generation as {place}; give it another variation or seed for another take, or take it out"
