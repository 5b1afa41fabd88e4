"""Where an archived file is in the bucket: a template, and keys that are safe for S3 and for people."""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

from slugify import slugify

from runcomfy.errors import ConfigurationError, InvalidInput

__all__ = [
    "DEFAULT_TEMPLATE",
    "IMAGES",
    "MEDIA",
    "PROBES",
    "QUARANTINE",
    "REFRESHED_AFTER",
    "RESERVED",
    "KeyTemplate",
    "aside_key",
    "is_aside",
    "safe_name",
    "usual_key",
]

DEFAULT_TEMPLATE = "{model}/{request_id}-{index}.{ext}"

RESERVED = frozenset({"batches", "catalogue", "images", "inbox", "journal", "media", "models", "quarantine", "reports"})
"""The folders directly below a store's prefix that this project uses itself; no archived file may be in them."""
IMAGES = "images/"
"""Where staged images are, below the store's prefix."""
MEDIA = "media/"
"""Where other staged files are: videos and sounds."""
QUARANTINE = "quarantine/"
"""Where files are that were set aside, under their usual names, below the store's prefix."""
REFRESHED_AFTER = timedelta(days=1)
"""An older staged image is written again when it is staged again, so that an old one is an unused one."""
PROBES = "journal/.probe-"
"""Where the store's features are tested, below its prefix; a process that is killed in the middle leaves one."""

MAX_PROMPT_CHARACTERS = 40
_MAX_KEY_BYTES = 900  # S3 allows 1024; the store's prefix and the provenance's ".json" need some
_MAX_PART_CHARACTERS = 200

_SHAPES = {
    "model": r"[A-Za-z0-9_./-]+", "request_id": r"[A-Za-z0-9_.-]+", "index": r"\d+",
    "ext": "[a-z0-9]{1,12}", "generation": "(?:[0-9a-f]{64}|nogeneration)",
    "prompt": "[a-z0-9-]+", "seed": r"(?:-?\d+|noseed)",
}  # fmt: skip
_FIELDS = frozenset(_SHAPES)
_LITERAL = re.compile(r"[A-Za-z0-9/!\-_.*'()=@+,]*")
_BESIDE_CHARACTERS = 9
_NEUTRAL: dict[str, Any] = {
    "model": "m", "request_id": "r", "index": 0, "ext": "mp4",
    "generation": "0" * 64, "prompt": "p" * MAX_PROMPT_CHARACTERS, "seed": 0,
}  # fmt: skip
"""Neutral facts of a generation, for checking the pattern alone."""
_NUMBER_FORMAT = re.compile(r"0?[0-9]?d?")


@dataclass(frozen=True)
class KeyTemplate:
    """The pattern of an archive key, relative to the store's prefix.

    Fields: `model` (its slashes make folders), `request_id`, `index` (of the output, from 0; `{index:03d}` pads it),
    `ext`, `generation` (64 hexadecimal digits), `prompt` (its first words, 40 characters at most) and `seed`. `{ext}`,
    `{index}` and `{request_id}` are needed: without them two files would share a key.

    Args:
        pattern: The pattern.
        allow_reserved: Accept one that points into a `RESERVED` folder, as older versions did: what was paid for with
            it is archived beside that folder. `check_place` still refuses it.

    Raises:
        ConfigurationError: The pattern has an unknown field, lacks a needed one, cannot give a safe key, or points into
            a folder that is `RESERVED`.
    """

    pattern: str = DEFAULT_TEMPLATE
    allow_reserved: bool = False

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
        self.render(**_NEUTRAL)
        if not self.allow_reserved:
            self.check_place()

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

        An unknown fact becomes `untitled` (prompt), `noseed` or `nogeneration`. An identifier that had to be changed to
        be safe gets a piece of its hash, so that two identifiers never become one. So does a first folder that is
        `RESERVED`: what is paid for is archived beside that folder.

        Raises:
            ConfigurationError: The key is not usable.
        """
        key = self._rendered(
            model=model, request_id=request_id, index=index, ext=ext, generation=generation, prompt=prompt, seed=seed
        )
        if ".." in key or any(part in ("", ".") for part in key.split("/")):
            self._refuse(f"gives the key {key!r}: no '..', no '.' or empty folder, no slash at its start or end")
        if reserved := _reserved_folder(key):
            key = f"{_beside(reserved)}{key.removeprefix(reserved)}"
        if len(key) > _MAX_KEY_BYTES:
            self._refuse(f"gives a key of {len(key)} bytes; {_MAX_KEY_BYTES} are allowed")
        return key

    def check_place(
        self,
        *,
        prefix: str = "",
        journal: str = "",
        model: str = "m",
        generation: str | None = None,
        prompt: str | None = None,
        seed: int | None = None,
    ) -> None:
        """Check, before anything is paid for, that a file does not land in a folder that has another purpose.

        Args:
            prefix: The store's prefix.
            journal: The folder of the journal, if that is in the same bucket and not below the prefix.
            model: What is known of the generation, as are those that follow.
            generation: Its key.
            prompt: Its prompt.
            seed: Its seed.

        Raises:
            ConfigurationError: The pattern points there whatever is generated.
            InvalidInput: This generation would land there, because of its prompt or another of its facts.
        """
        facts = {"model": model, "generation": generation, "prompt": prompt, "seed": seed}
        for known, refuse in (({}, self._refuse), (facts, _refuse_facts)):
            key = self._rendered(**_NEUTRAL | known)
            if reserved := _reserved_folder(key):
                refuse(
                    f"points into the folder {reserved}/, which is kept for other things, as are {_listed(RESERVED)}. "
                    "Nothing was paid for. Choose another, such as videos/{model}/{request_id}-{index}.{ext}"
                )
            if journal and f"{prefix}{key}".casefold().startswith(journal.casefold()):
                refuse(
                    f"points into the folder of the journal, {journal}. Nothing was paid for. Choose another archive "
                    "key or prefix, or keep the journal elsewhere"
                )

    def _rendered(
        self,
        *,
        model: str,
        request_id: str,
        index: int,
        ext: str,
        generation: str | None,
        prompt: str | None,
        seed: int | None,
    ) -> str:
        return self.pattern.format(
            model="/".join(safe_name(part) for part in model.split("/") if part) or "model",
            request_id=safe_name(request_id),
            index=index,
            ext=safe_name(ext),
            generation=safe_name(generation or "nogeneration"),
            prompt=slugify(prompt or "", max_length=MAX_PROMPT_CHARACTERS, word_boundary=True) or "untitled",
            seed="noseed" if seed is None else seed,
        )

    def matches(self, key: str) -> bool:
        """Whether a key, relative to the store's prefix, may have been made by this pattern for a video or an image."""
        parts = [
            re.escape(literal) + (_SHAPES[name] if name else "")
            for literal, name, *_ in string.Formatter().parse(self.pattern)
        ]
        first, slash, rest = key.partition("/")
        meant = first[:-_BESIDE_CHARACTERS]
        if _reserved_folder(f"{meant}/") and _beside(meant) == first:  # as `render` changes it
            key = f"{meant}{slash}{rest}"
        return re.fullmatch("".join(parts), key) is not None

    def _refuse(self, reason: str) -> NoReturn:
        raise ConfigurationError(f"The key template {self.pattern!r} {reason}.")


def _reserved_folder(key: str) -> str:
    """Return the first folder of a key if it is reserved, or the same to some stores; empty otherwise."""
    first, slash, _ = key.lstrip("/").partition("/")
    return first if slash and first.strip(".").casefold() in RESERVED else ""


def _beside(folder: str) -> str:
    """Return the name of a folder that is not reserved, for what would be in one that is."""
    return f"{folder}-{hashlib.sha256(folder.encode()).hexdigest()[: _BESIDE_CHARACTERS - 1]}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"{name}/" for name in sorted(names))


def _refuse_facts(reason: str) -> NoReturn:
    raise InvalidInput(f"With the prompt, model and seed of this generation, the archive key {reason}.")


def is_aside(prefix: str, key: str) -> bool:
    """Whether a full key is that of a file that was set aside.

    Args:
        prefix: The store's prefix.
        key: The full key.
    """
    return key.startswith(f"{prefix}{QUARANTINE}")


def usual_key(prefix: str, key: str) -> str:
    """Return where a file that was set aside would be otherwise; other keys as they are."""
    return f"{prefix}{key.removeprefix(prefix).removeprefix(QUARANTINE)}" if is_aside(prefix, key) else key


def aside_key(prefix: str, key: str) -> str:
    """Return where a file with this full key is when it is set aside."""
    return f"{prefix}{QUARANTINE}{usual_key(prefix, key).removeprefix(prefix)}"


def safe_name(text: str) -> str:
    """Return an identifier as it is in a key: itself, or, where it had to be changed, with a piece of its hash."""
    safe = re.sub(r"\.{2,}", "-", re.sub(r"[^A-Za-z0-9_.-]+", "-", text)).strip(".")[:_MAX_PART_CHARACTERS]
    if safe and safe == text:
        return safe
    return f"{safe or 'x'}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
