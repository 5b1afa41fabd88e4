"""What a generation is recognised by in files that hold many: its ids, its words, its row in a manifest."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from html import escape
from typing import Any, Self

from runcomfy.errors import InvalidInput
from runcomfy.journal import Entry
from runcomfy.manifest.checking import is_empty
from runcomfy.manifest.table import IGNORED
from runcomfy.models import model_id_of
from runcomfy.models.columns import OWN, column_of
from runcomfy.texts import is_written, normal_text, prompt_of

__all__ = ["Traces"]

_SHORT_KEY = 12
_OWN_WORDS = 16  # characters: a shorter text is a word that others use too


@dataclass(frozen=True)
class Traces:
    """What a generation is recognised by. Of one that was erased before, only the ids are known."""

    key: str
    request_ids: tuple[str, ...]
    model_id: str
    inputs: Mapping[str, Any] = field(repr=False)
    variation: str = field(default="", repr=False)
    media: frozenset[str] = field(default=frozenset(), repr=False)
    """Where its input files are and came from."""

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """Return those of an entry."""
        media = {name for file in entry.files for name in (file.uri, file.source)}
        ids = tuple(entry.request_ids)
        return cls(entry.generation_key, ids, entry.model_id, entry.inputs, entry.variation, frozenset(media))

    @property
    def words(self) -> tuple[str, ...]:
        """Texts that somebody wrote for it, and that hardly anything else contains; the longest first."""
        prompt = prompt_of(self.inputs)
        given = [text for text in _texts([self.inputs, self.variation]) if is_written(text) or text == prompt]
        return tuple(sorted({text for text in given if len(text) >= _OWN_WORDS}, key=len, reverse=True))

    def without_words(self, value: Any) -> Any:
        """Return a JSON value with the words cut out of every text in it."""
        match value:
            case str():
                for words in self.words:
                    value = value.replace(words, "[erased]")
                return value
            case list():
                return [self.without_words(each) for each in value]
            case dict():
                return {name: self.without_words(each) for name, each in value.items()}
        return value

    def are_on(self, page: bytes) -> bool:
        """Whether a page for people is about this generation too."""
        named = (self.key[:_SHORT_KEY], *self.request_ids, *(escape(words) for words in self.words), *self.words)
        return any(name.encode() in page for name in named)

    def asked_by(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of a manifest asks for this generation, as far as the row says."""
        prompt, columns = prompt_of(self.inputs), {column_of(name): name for name in self.inputs}
        full = {name: value for name, value in row.items() if not is_empty(value) and name not in IGNORED}
        given = {columns[name]: value for name, value in full.items() if name in columns}
        asked = prompt_of(full) or prompt_of(given)
        if prompt is None or asked is None or normal_text(asked) != normal_text(prompt):
            return False
        if full.keys() - columns.keys() - set(OWN):  # a setting that this one has not: it is another generation
            return False
        image, model = full.get("image"), full.get("model")
        if (image and image not in self.media) or (model and _model(str(model)) != self.model_id):
            return False
        if normal_text(str(full.get("variation", ""))) != self.variation:
            return False
        others = {name: value for name, value in given.items() if self.inputs[name] != prompt}
        return all(str(value) in self.media or _same(value, self.inputs[name]) for name, value in others.items())


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list() | tuple():
            for each in value:
                yield from _texts(each)
        case dict():
            yield from _texts(list(value.values()))


def _same(given: Any, value: Any) -> bool:
    if isinstance(value, bool):
        return str(given).strip().lower() in ({"true", "1", "1.0", "yes"} if value else {"false", "0", "0.0", "no"})
    if isinstance(value, list | dict):
        read = _read(given, value)
        if isinstance(value, dict) or not isinstance(read, list):
            return bool(read == value)
        return len(read) == len(value) and all(map(_same, read, value))
    try:
        return Decimal(str(given).strip()) == Decimal(str(value))
    except InvalidOperation:
        return normal_text(str(given)) == normal_text(str(value))


def _read(given: Any, value: Any) -> Any:
    """Return what a cell has where a list or an object is meant: as JSON, or with a bar or a line between two texts."""
    if not isinstance(given, str):
        return given
    with suppress(ValueError):
        return json.loads(given)
    return re.split(r"[|\n]", given) if isinstance(value, list) else given


def _model(named: str) -> str:
    try:
        return model_id_of(named)
    except InvalidInput:
        return named
