"""Where an archived file stands in the bucket: a template, and keys that are safe for S3 and for people."""

from __future__ import annotations

import hashlib
import re
import string
from dataclasses import dataclass

from slugify import slugify

from runcomfy.errors import ConfigurationError

__all__ = ["DEFAULT_TEMPLATE", "KeyTemplate"]

DEFAULT_TEMPLATE = "{model}/{request_id}-{index}.{ext}"

MAX_PROMPT_CHARACTERS = 40
_MAX_KEY_BYTES = 900  # S3 allows 1024; the store's prefix and the provenance's ".json" need some
_MAX_PART_CHARACTERS = 200

_SHAPES = {
    "model": r"[A-Za-z0-9_./-]+", "request_id": r"[A-Za-z0-9_.-]+", "index": r"\d+",
    "ext": "(?:mp4|mov|webm|mkv|gif|jpg|png|webp|avif)", "generation": "(?:[0-9a-f]{64}|nogeneration)",
    "prompt": "[a-z0-9-]+", "seed": r"(?:-?\d+|noseed)",
}  # fmt: skip
_FIELDS = frozenset(_SHAPES)
_LITERAL = re.compile(r"[A-Za-z0-9/!\-_.*'()=@+,]*")
_NUMBER_FORMAT = re.compile(r"0?[0-9]?d?")


@dataclass(frozen=True)
class KeyTemplate:
    """The pattern of an archive key, relative to the store's prefix.

    Fields: `model` (its slashes make folders), `request_id`, `index` (of the output, from 0; `{index:03d}` pads it),
    `ext`, `generation` (64 hexadecimal digits), `prompt` (its first words, 40 characters at most) and `seed`. `{ext}`,
    `{index}` and `{request_id}` are needed: without them two files would share a key.

    Raises:
        ConfigurationError: The pattern has an unknown field, lacks a needed one, or cannot give a safe key.
    """

    pattern: str = DEFAULT_TEMPLATE

    def __post_init__(self) -> None:
        try:
            parts = list(string.Formatter().parse(self.pattern))
        except ValueError as trouble:
            raise ConfigurationError(f"The key template {self.pattern!r} cannot be read: {trouble}.") from None
        used = set()
        for literal, name, style, conversion in parts:
            if not _LITERAL.fullmatch(literal):
                self._refuse("has a character that is no letter, digit or one of /!-_.*'()=@+,")
            if name is None:
                continue
            if name not in _FIELDS:
                self._refuse(f"has an unknown field {{{name}}}; there are: {', '.join(sorted(_FIELDS))}")
            if conversion or (style and (name != "index" or not _NUMBER_FORMAT.fullmatch(style))):
                self._refuse(f"formats {{{name}}}; only the index can be padded, as in {{index:03d}}")
            used.add(name)
        if "ext" not in used or "index" not in used:
            self._refuse("needs {ext} and {index}")
        if "request_id" not in used:
            self._refuse("needs {request_id}")
        self.render(
            model="m",
            request_id="r",
            index=0,
            ext="mp4",
            generation="0" * 64,
            prompt="p" * MAX_PROMPT_CHARACTERS,
            seed=0,
        )

    def render(
        self,
        *,
        model: str,
        request_id: str,
        index: int,
        ext: str,
        generation: str | None = None,
        prompt: str | None = None,
        seed: int | None = None,
    ) -> str:
        """Return the key for one output file; the same facts give the same key.

        What is not known reads `untitled` (prompt), `noseed` or `nogeneration`. An identifier that had to be changed
        to be safe gets a piece of its hash, so that two identifiers never become one.

        Raises:
            ConfigurationError: The key is not usable.
        """
        key = self.pattern.format(
            model="/".join(_safe(part) for part in model.split("/") if part) or "model",
            request_id=_safe(request_id),
            index=index,
            ext=_safe(ext),
            generation=_safe(generation or "nogeneration"),
            prompt=slugify(prompt or "", max_length=MAX_PROMPT_CHARACTERS, word_boundary=True) or "untitled",
            seed="noseed" if seed is None else seed,
        )
        if ".." in key or any(part in ("", ".") for part in key.split("/")):
            self._refuse(f"gives the key {key!r}: no '..', no '.' or empty folder, no slash at its start or end")
        if len(key) > _MAX_KEY_BYTES:
            self._refuse(f"gives a key of {len(key)} bytes; {_MAX_KEY_BYTES} are allowed")
        return key

    def matches(self, key: str) -> bool:
        """Whether a key, relative to the store's prefix, may have been made by this pattern for a video or picture."""
        parts = [
            re.escape(literal) + (_SHAPES[name] if name else "")
            for literal, name, *_ in string.Formatter().parse(self.pattern)
        ]
        return re.fullmatch("".join(parts), key) is not None

    def _refuse(self, reason: str) -> None:
        raise ConfigurationError(f"The key template {self.pattern!r} {reason}.")


def _safe(text: str) -> str:
    safe = re.sub(r"\.{2,}", "-", re.sub(r"[^A-Za-z0-9_.-]+", "-", text)).strip(".")[:_MAX_PART_CHARACTERS]
    if safe and safe == text:
        return safe
    return f"{safe or 'x'}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
