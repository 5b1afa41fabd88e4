"""Read a page as a browser does: its elements, and what is wrong with their structure."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass, field
from html.parser import HTMLParser

__all__ = ["Element", "Reader", "read"]

_EMPTY = {"br", "circle", "img", "input", "line", "link", "meta", "path", "rect"}


@dataclass
class Element:
    """An element with its attributes and all the text in it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Reader(HTMLParser):
    """Keeps every element of a page, and what does not close."""

    elements: list[Element] = field(default_factory=list)
    unclosed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[Element] = []
        self._parts: defaultdict[int, list[str]] = defaultdict(list)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in _EMPTY:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop().tag != tag:
            self.unclosed.append(tag)

    def text_of(self, tag: str) -> str:
        """Return the text of the first such element, its parts apart by one space each."""
        element = self.all(tag)[0]
        return " ".join(" ".join(self._parts[id(element)]).split())

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data
            self._parts[id(element)].append(data)

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Return the elements of a kind that have these attributes; a class is one of several."""
        return [
            element
            for element in self.elements
            if element.tag == tag
            and all(value in element.attributes.get(name.rstrip("_"), "").split() for name, value in attributes.items())
        ]

    @property
    def policy(self) -> dict[str, str]:
        """The Content-Security-Policy, by its directives."""
        (meta,) = [each for each in self.all("meta") if "http-equiv" in each.attributes]
        parts = (part.strip().partition(" ") for part in meta.attributes["content"].split(";"))
        return {name: value for name, _, value in parts}

    def troubles(self) -> list[str]:
        """Return what is wrong with the structure, for a browser, a keyboard or a screen reader."""
        found = [f"</{tag}> closes nothing, or another" for tag in (*self.unclosed, *(each.tag for each in self._open))]
        ids = [each.attributes["id"] for each in self.elements if "id" in each.attributes]
        found += [f"two have the id {name}" for name in set(ids) if ids.count(name) > 1]
        for each in self.elements:
            known = each.attributes
            found += [f"{each.tag} has {name}" for name in known if name == "style" or name.startswith("on")]
            found += [f"{name} is not there" for name in known.get("aria-labelledby", "").split() if name not in ids]
            target = known.get("href", "")
            if target.startswith("#") and target[1:] not in ids:
                found.append(f"{target} leads nowhere")
            if each.tag in ("img", "svg") and not (known.get("alt") or known.get("aria-label")):
                found.append(f"{each.tag} has no text")
            if each.tag in ("img", "script", "video", "source", "iframe") and not (
                known.get("src", "data:").startswith("data:")
            ):
                found.append(f"{each.tag} loads {known['src']}")
            if each.tag == "th" and "scope" not in known:
                found.append("a th has no scope")
            if each.tag in ("a", "summary", "h1", "h2", "h3", "button", "title") and not each.text.strip():
                found += [] if each.tag == "a" else [f"{each.tag} is empty"]
        levels = [int(each.tag[1]) for each in self.elements if re.fullmatch("h[1-6]", each.tag)]
        found += [f"h{level} follows h{before}" for before, level in zip([0, *levels], levels, strict=False)
                  if level > before + 1]  # fmt: skip
        for tag, directive in (("script", "script-src"), ("style", "style-src")):
            for each in self.all(tag):
                digest = base64.b64encode(hashlib.sha256(each.text.encode()).digest()).decode()
                if self.policy[directive] != f"'sha256-{digest}'":
                    found.append(f"a {tag} that the policy does not allow")
        return found


def read(html: bytes) -> Reader:
    """Return a page as it is read."""
    reader = Reader()
    reader.feed(html.decode())
    reader.close()
    return reader
