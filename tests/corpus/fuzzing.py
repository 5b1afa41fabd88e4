"""Change good and bad files at random, and read them: nothing but our errors, within a bound of memory and time.

`python -m tests.corpus.fuzzing KIND COUNT [SEED]`, with a kind of `READERS`, reads so many inputs in this process and
prints what it took, as JSON. An input that breaks the rule is written to a file, whose name is printed.
"""

from __future__ import annotations

import asyncio
import io
import json
import random
import resource
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from runcomfy.api.client import RunComfyClient
from runcomfy.api.refusals import classify_submission
from runcomfy.archive.provenance import Provenance
from runcomfy.errors import InvalidInput, RunComfyError
from runcomfy.inbox.notices import read_notice
from runcomfy.journal.entry import EntryState
from runcomfy.journal.stores import MemoryJournalStore
from tests.corpus.answers import CALLS, GOOD, STATUSES, answering
from tests.corpus.manifests import EXAMPLES
from tests.corpus.notices import EXAMPLES as NOTICES
from tests.corpus.sidecars import EXAMPLES as SIDECARS
from tests.corpus.sidecars import Sidecar, requested
from tests.runcomfy.journal.making import journal_at
from tests.runcomfy.manifest.making import read_text

__all__ = ["EXTRA_MEMORY_BYTES", "READERS", "SECONDS_EACH"]

EXTRA_MEMORY_BYTES = 1_200_000_000
"""Of address space, beyond that of the modules; the inputs that are changed have 100 kB at most."""
SECONDS_EACH = 20
"""Of processor time."""
LARGEST = 100_000
GOLDEN = Path(__file__).parents[1] / "golden" / "written"
TOKENS = (
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\r", b"\n", b'"', b"'", b",", b";", b"\t", b"=", b"@", b"[", b"]", b"{",
    b"}", b":", b"\\ud800", b"\\u0000", b"NaN", b"Infinity", b"-0", b"1e999", b"9" * 400, b"null", b"true", b"sep=",
    b"prompt", b"seed", b"image", b"model", b"__index_level_0__", b"Unnamed: 0", b"[" * 2000, b'{"a":' * 2000,
    b"a" * 20_000, b"," * 2000, b"<", b">", b"<!--", b"<![CDATA[", b"&#0;", b'r="ZZZ9"', b't="s"', b"PK\x01\x02",
    b"Records", b"eventName", b"Message", b"TopicArn", b"detail", b"%ff", b"\x7f\xff\xff\xff", b"\x80\x80\x80\x80\x7f",
)  # fmt: skip


def changed(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """Return the data with a few changes: bytes, slices, tokens, pieces of other files."""
    new = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(new) + 1)
        end = min(len(new), at + chance.choice((1, 1, 2, 4, 16, 200)))
        kind = chance.randrange(7)
        if kind == 0:
            new[at:end] = chance.randbytes(end - at)
        elif kind == 1:
            del new[at:end]
        elif kind == 2:
            new[at:at] = chance.choice(TOKENS)
        elif kind == 3:
            new[at:end] = chance.choice(TOKENS)
        elif kind == 4:
            new[at:at] = new[at:end] * chance.choice((1, 2, 50))
        elif kind == 5 and at < len(new):
            new[at] ^= 1 << chance.randrange(8)
        else:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            new[at:end] = other[start : start + chance.choice((4, 40, 400))]
    return bytes(new[:LARGEST])


def changed_archive(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """Return an Excel file one of whose parts was changed before it was packed; sometimes the packed bytes are."""
    if chance.random() < 0.2 or not zipfile.is_zipfile(io.BytesIO(data)):
        return changed(data, others, chance)
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as new:
        names = old.namelist()
        target = chance.choice([name for name in names if "sheet" in name or "shared" in name] or names)
        target = chance.choice((target, target, chance.choice(names)))
        parts = [old.read(name) for name in names]
        for name, part in zip(names, parts, strict=True):
            new.writestr(name, changed(part, parts, chance) if name == target else part)
    return file.getvalue()


def manifest(kind: str) -> Callable[[bytes], object]:
    folder = Path(tempfile.mkdtemp())
    return lambda data: read_text(folder, f"m.{kind}", data)


def sidecar(data: bytes) -> object:
    refusals = []
    for extension in ("json", "txt"):
        try:
            requested(Sidecar(f"p.{extension}", data))
        except InvalidInput as error:
            refusals.append(error)
    if len(refusals) == 2:
        raise refusals[0]
    return None


def notice(data: bytes) -> object:
    return read_notice(data.decode("utf-8", "replace"))


def provenance(data: bytes) -> object:
    try:
        return Provenance.from_json(data)
    except ValueError as error:  # which its callers name
        raise InvalidInput(str(type(error))) from None


def entry(data: bytes) -> object:
    """Read it as the journal does, and write the next version of it."""

    async def read() -> None:
        store = MemoryJournalStore()
        store.create("k.json", data)
        found = await journal_at(store).read("k")
        assert found is not None
        found.entry.moved(EntryState.FAILED, worker="host:1").to_json()

    return asyncio.run(read())


class Answers:
    """The service's answers to each of its calls and to a submission, one after the other."""

    def __init__(self) -> None:
        self.chance = random.Random(1)
        self.client = RunComfyClient("sandbox-token", transport=answering(self.chance))
        self.runner = asyncio.Runner()

    def __call__(self, data: bytes) -> object:
        name = self.chance.choice((*CALLS, "submission"))
        if name == "submission":
            found = classify_submission(httpx.Response(self.chance.choice(STATUSES), content=data))
            return None if isinstance(found, str) else str(found)
        return self.runner.run(CALLS[name](self.client))


def documents(name: str) -> list[bytes]:
    """Return the document, or those that are in it by their names, as they are kept for good."""
    found = json.loads((GOLDEN / name).read_text(encoding="utf-8"))
    return [json.dumps(each).encode() for each in ([found] if "schema_version" in found else found.values())]


def examples(kind: str) -> list[bytes]:
    chosen = (example.data() for example in EXAMPLES if example.name.endswith(f".{kind}") and not example.slow)
    return [data for data in chosen if len(data) <= LARGEST]


READERS = ("csv", "jsonl", "parquet", "xlsx", "sidecar", "notice", "provenance", "entry", "answer")
READ: dict[str, Callable[[], Callable[[bytes], object]]] = {
    "sidecar": lambda: sidecar, "notice": lambda: notice, "provenance": lambda: provenance, "entry": lambda: entry,
    "answer": Answers,
}  # fmt: skip
INPUTS: dict[str, Callable[[], list[bytes]]] = {
    "sidecar": lambda: [each.data for each in SIDECARS if len(each.data) <= LARGEST],
    "notice": lambda: [each.body.encode("utf-8", "surrogatepass") for each in NOTICES],
    "provenance": lambda: documents("provenance.json"), "entry": lambda: documents("entries.json"),
    "answer": lambda: [json.dumps(body).encode() for body in GOOD],
}  # fmt: skip


def main(kind: str, count: int, seed: int) -> None:
    """Read so many changed inputs of a kind."""
    chance = random.Random(seed)
    inputs = INPUTS[kind]() if kind in INPUTS else examples(kind)
    read = READ[kind]() if kind in READ else manifest(kind)
    for data in inputs:  # imports everything, before the memory is bounded
        try:
            read(data)
        except RunComfyError:
            continue
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bound = pages * resource.getpagesize() + EXTRA_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    refused, longest = 0, 0.0
    for _ in range(count):
        make = changed_archive if kind == "xlsx" else changed
        data = make(chance.choice(inputs), inputs, chance)
        began = time.process_time()
        try:
            read(data)
        except RunComfyError as error:
            refused += 1
            if "Traceback" in error.message or "MemoryError" in error.message:
                fail(kind, data, error.message)
        except BaseException:
            fail(kind, data, traceback.format_exc())
        longest = max(longest, time.process_time() - began)
        if longest > SECONDS_EACH:
            fail(kind, data, f"it took {longest} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        json.dumps({"kind": kind, "count": count, "refused": refused, "longest_s": round(longest, 2), "peak_mb": peak})
    )


def fail(kind: str, data: bytes, said: str) -> None:
    path = Path(tempfile.mkdtemp()) / f"input.{kind}"
    path.write_bytes(data)
    sys.exit(f"{path}: {said}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)
