"""`python -m tests.corpus.table [KIND …]` prints what becomes of each input of the corpus, before and now, as Markdown.

Kinds: images, manifests, urls, notices, sidecars, stores; all of them by default. "Before" is what `before.json` has of
an input: what the code said before all this was looked into, as `tests/corpus/before.py` found it out.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["KINDS", "rows"]

BEFORE = Path(__file__).parent / "before.json"
_LONGEST = 600
_PROBE = re.compile(r"\.probe-[0-9a-f]{32}")
Row = tuple[str, str]
"""An input, and what was said of it."""


def outcome(read: Callable[[], str]) -> str:
    try:
        return read()
    except Exception as error:
        said = getattr(error, "message", "") or f"{type(error).__name__}: {error}"
        return f"refused: {said}"


def images() -> Iterator[Row]:
    from runcomfy.media.images import inspect_image
    from tests.corpus.images import CORPUS

    def read(data: bytes) -> str:
        inspect_image(data)
        return "accepted"

    for sample in CORPUS:
        yield sample.name, outcome(lambda data=sample.data: read(data))  # type: ignore[misc]  # mypy knows no defaults


def manifests() -> Iterator[Row]:
    from tests.corpus.manifests import EXAMPLES
    from tests.runcomfy.manifest.making import problems, read_text

    def read(name: str, data: bytes) -> str:
        manifest = read_text(Path(folder), name, data)
        bad = "; ".join(f"{place}: {said}" for place, said in problems(manifest).items())
        return "; ".join(filter(None, (f"{len(manifest.rows)} rows accepted", bad and f"refused: {bad}")))

    with tempfile.TemporaryDirectory() as folder:
        for example in EXAMPLES:
            if not example.slow:
                said = outcome(lambda name=example.name, make=example.data: read(name, make()))  # type: ignore[misc]
                yield example.name, said.replace(f"{folder}/", "")


def urls() -> Iterator[Row]:
    from tests.corpus.urls import EXAMPLES, Url, serving, tried

    with serving() as address:

        def read(example: Url) -> str:
            tried(example, address)
            return "accepted"

        for example in EXAMPLES:
            said = outcome(lambda example=example: read(example))  # type: ignore[misc]
            yield example.name, said.replace(address, "https://the-server")


def notices() -> Iterator[Row]:
    from runcomfy.inbox.notices import read_notice
    from tests.corpus.notices import EXAMPLES

    for each in EXAMPLES:
        yield (
            each.name,
            outcome(lambda body=each.body: f"accepted: {len(read_notice(body))} arrivals"),  # type: ignore[misc]
        )


def sidecars() -> Iterator[Row]:
    from tests.corpus.sidecars import EXAMPLES, Sidecar, requested

    def read(example: Sidecar) -> str:
        return f"accepted: {requested(example).prompt[:40]}"

    for example in EXAMPLES:
        yield example.name, outcome(lambda example=example: read(example))  # type: ignore[misc]


def stores() -> Iterator[Row]:
    from runcomfy.sandbox.objectstore import running_object_store
    from runcomfy.storage.bucket_settings import BucketSettings
    from tests.corpus.stores import GOOD, REFUSED
    from tests.runcomfy.storage.imitated import imitated_store
    from tests.runcomfy.storage.test_imitated_stores import use

    made = {kind: (lambda prefix, kind=kind: GOOD[kind][0](prefix), GOOD[kind][1]) for kind in GOOD}
    made |= {kind: (lambda _, kind=kind: REFUSED[kind][0], {}) for kind in REFUSED}
    with running_object_store() as real:
        for number, (kind, (behaviour, options)) in enumerate(made.items()):
            with imitated_store(real, behaviour(f"table-{number}/")) as imitated:
                store = imitated.store("videos", f"table-{number}", settings=BucketSettings(**options))
                said = outcome(lambda store=store: str(use(store) or "accepted"))  # type: ignore[misc,func-returns-value]
            yield kind, _PROBE.sub(".probe-…", said.replace(imitated.endpoint_url, "http://the-store"))


KINDS: dict[str, Callable[[], Iterator[Row]]] = {
    "images": images, "manifests": manifests, "urls": urls, "notices": notices, "sidecars": sidecars, "stores": stores
}  # fmt: skip


def rows(kind: str) -> dict[str, str]:
    """Return what is said of each input of a kind."""
    return {name: " ".join(said.split())[:_LONGEST] for name, said in KINDS[kind]()}


def cell(text: str) -> str:
    return text.replace("|", "\\|").encode("utf-8", "backslashreplace").decode()


def main(words: list[str]) -> None:
    """Print the tables of the kinds that are named."""
    kinds = [word for word in words if word in KINDS] or list(KINDS)
    before = json.loads(BEFORE.read_text()) if BEFORE.exists() else {}
    for kind in kinds:
        known = before.get(kind, {})
        heads = ("input", "before", "now") if known else ("input", "now")
        print(f"\n## {kind}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        for name, said in rows(kind).items():
            shown = [name, known.get(name, "not tried"), said] if known else [name, said]
            print(f"| {' | '.join(map(cell, shown))} |")


if __name__ == "__main__":
    main(sys.argv[1:])
