"""Find the URLs of generated files in the `output` of a result, whatever its shape.

The names are those of RunComfy's model schemas and published clients. Where none of them has a file, any http(s) URL in
the output is taken, as RunComfy's own command line does; then the file is a guess, and `Outputs.guessed` says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Outputs", "find_outputs", "given_urls"]

_MEDIA = ("video", "videos", "image", "images", "audio", "audios")  # this order is part of the archive keys
_PLAIN = ("url", "path")
_INPUTS = ("input", "request", "payload", "param", "argument", "args", "prompt", "setting")
_LINKS = ("statusurl", "resulturl", "cancelurl", "webhook", "callback")
_MAX_DEPTH = 20
_URL = re.compile(r"https?://[^\s\"'<>\\^`{|}]+", re.IGNORECASE)
_NO_SCHEME = re.compile(r"//[^/\s]+\.[^/\s]+/\S+")  # relative to the scheme of a page; files come over https
_NEXT_URL = re.compile(r"[\s,;]+(?=https?://)", re.IGNORECASE)
_RUNCOMFY = (".runcomfy.net", ".runcomfy.com")
_STAGED = re.compile(r"/images/[0-9a-f]{64}\.[a-z0-9]{1,5}$")


@dataclass(frozen=True)
class Outputs:
    """The URLs of the files, each once and in a stable order, and whether one of them is a guess."""

    urls: tuple[str, ...] = ()
    guessed: bool = False


def find_outputs(output: Any, *, sent: Collection[str] = (), repeated: Collection[str] = ()) -> Outputs:
    """Return the URLs of the files in `output`.

    A repeated input is not a file: neither a URL that we sent or staged, under any name, nor, where a file has to be
    guessed, one that the answer itself calls an input.

    Args:
        output: The value of `output` in the service's answer; only that, since an answer may repeat its inputs beside.
        sent: URLs that were submitted, without their queries.
        repeated: URLs that the answer has as inputs beside the output, without their queries.
    """
    guesses: list[str] = []
    urls: dict[str, bool] = {}
    for url in _named(_parsed(output), guesses, 0):
        plain, guessed = _without_query(url), url in guesses
        if plain not in sent and not _is_staged(plain) and not (guessed and plain in repeated):
            urls[url] = guessed
    return Outputs(tuple(urls), guessed=any(urls.values()))


def given_urls(body: Any) -> frozenset[str]:
    """Return the URLs in a submission's body, without their queries, so that an echo of them is recognised."""
    return frozenset(map(_without_query, _anywhere(body, 0, everything=True)))


def _named(value: Any, guesses: list[str], depth: int) -> list[str]:
    """Search the known names first; then, if they are missing or hold no URL, everywhere."""
    found: list[str] = []
    if depth <= _MAX_DEPTH:
        if isinstance(value, dict):
            names = {_squeezed(name): name for name in reversed(value)}
            for group in (_MEDIA, _PLAIN):
                for name in (names[name] for name in group if name in names):
                    found += _named(_parsed(value[name]), guesses, depth + 1)
                if found:
                    return found
        elif isinstance(value, list):
            for item in value:
                found += _named(_parsed(item), guesses, depth + 1)
        elif isinstance(value, str):
            found = _urls_of(value)
    if not found and depth <= _MAX_DEPTH:
        found = list(_anywhere(value, depth))
        guesses += found
    return found


def _anywhere(value: Any, depth: int, *, everything: bool = False) -> Iterator[str]:
    """Yield every URL in a value, also from the middle of a text, except under names of inputs and links."""
    value = _parsed(value)
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, dict):
        for name, item in value.items():
            squeezed = _squeezed(name)
            if everything or not (squeezed.startswith(_INPUTS) or squeezed.startswith(_LINKS)):
                yield from _anywhere(item, depth + 1, everything=everything)
    elif isinstance(value, list):
        for item in value:
            yield from _anywhere(item, depth + 1, everything=everything)
    elif isinstance(value, str):
        yield from _urls_of(value) or (_cleaned(found) for found in _URL.findall(value) if _has_host(_cleaned(found)))


def _parsed(value: Any) -> Any:
    """Parse a text that is itself JSON."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _urls_of(text: str) -> list[str]:
    """Return the URLs that a text consists of: one, or several separated by blanks or commas."""
    text = text.strip().strip("\"'<>").strip()
    if _NO_SCHEME.fullmatch(text):
        text = f"https:{text}"
    if not text[:8].lower().startswith(("https://", "http://")):
        return []
    return [_cleaned(part) for part in _NEXT_URL.split(text) if _has_host(part)]


def _cleaned(url: str) -> str:
    scheme, separator, rest = url.strip().rstrip(".,;:!?)]\"'").partition("://")
    return f"{scheme.lower()}{separator}{rest}"


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False


def _squeezed(name: object) -> str:
    return "".join(character for character in str(name).lower() if character.isalnum())


def _is_staged(url: str) -> bool:
    """Whether a URL leads to an input that anyone staged with this project: `…/images/<sha256>.<extension>`.

    Nothing is staged at RunComfy's own hosts: a file with such a name there is theirs.
    """
    return _STAGED.search(url) is not None and not (urlsplit(url).hostname or "").endswith(_RUNCOMFY)


def _without_query(url: str) -> str:
    return re.split(r"[?#]", url, maxsplit=1)[0]
