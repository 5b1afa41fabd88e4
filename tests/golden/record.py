"""Record what must not change, on purpose: `python -m tests.golden.record offered documents blocks commands`, or some.

What the present code offers is written into `offered/`, what it writes into `written/`. A change of a file that is
there already takes something from people who rely on it: the CHANGELOG then says what, and what they do. What is in
`written/` stays as an older version wrote it; record a new kind of document beside them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from runcomfy.sandbox import Sandbox, SandboxSettings
from runcomfy.sandbox.objectstore import running_object_store
from tests.golden import commands, documents, saved_blocks
from tests.golden.offered import OFFERED
from tests.prefect_server import patient_prefect_server

__all__ = ["GOLDEN", "recorded"]

GOLDEN = Path(__file__).parent


def recorded(name: str) -> Any:
    """Return what was recorded in a file before."""
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


def _record(name: str, document: Any) -> None:
    (GOLDEN / name).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"recorded {name}")


def _offered() -> None:
    for name, offered in OFFERED.items():
        _record(f"offered/{name}.json", offered())


def _documents() -> None:
    entries = documents.entries()
    _record("written/entries.json", {name: json.loads(entry.to_json()) for name, entry in entries.items()})
    _record("offered/meanings.json", {name: documents.meaning(entry) for name, entry in entries.items()})
    document = documents.provenance()
    _record("written/provenance.json", json.loads(document.to_json()))
    _record("offered/meaning_of_files.json", documents.meaning_of_files(document))


def _blocks() -> None:
    with patient_prefect_server():
        for slug, block in saved_blocks.BLOCKS.items():
            _record(f"written/{slug}.json", asyncio.run(saved_blocks.saved(block, "recorded")))


def _commands() -> None:
    settings = SandboxSettings(run_seconds=0.2, tiny_videos=True)
    with (
        patient_prefect_server(),
        Sandbox(settings) as sandbox,
        running_object_store() as object_store,
        tempfile.TemporaryDirectory() as folder,
    ):
        _record("offered/commands.json", commands.printed(sandbox, object_store, Path(folder)))


if __name__ == "__main__":
    for part in sys.argv[1:]:
        {"offered": _offered, "documents": _documents, "blocks": _blocks, "commands": _commands}[part]()
