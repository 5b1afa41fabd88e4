"""`python -m tests.corpus.fuzz_media FILES [SEED] [ARCHIVED]` has mutations of good videos, sounds and images judged.

Each is judged as an output is, with its decoder in a process of its own; every so many-th (`ARCHIVED`, 10 if it is not
given, 0 for none) is served over a socket and archived, with its mark, into a real S3 server. What was found is printed
as JSON. It ends with an error at the first file that raises anything, has no verdict, or is not in the bucket; the file
is then at the path that was printed first. If it ends without a word, that file has ended this process, and would have
ended a worker.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
import resource
import struct
import sys
import tempfile
import time
import wave
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from runcomfy.archive.archive import archive_output
from runcomfy.archive.provenance import Provenance
from runcomfy.download.hosts import HostPolicy
from runcomfy.media.decoding import decode
from runcomfy.media.kinds import SNIFF_BYTES, by_name, sniff
from runcomfy.media.quality import judge
from runcomfy.sandbox.objectstore import running_object_store
from runcomfy.sandbox.render import Recipe, render
from runcomfy.storage.store import Store
from runcomfy.values import VERDICTS, GenerationFacts
from tests.answering import Reply, answering
from tests.corpus.mutations import INTERESTING, cut, drop, flip, number, repeat, splice, zeros

__all__ = ["fuzz", "seeds"]

ARRIVALS = Path(__file__).parents[1] / "runcomfy" / "archive" / "arrivals"
CASES = Path(__file__).parents[3] / "shared" / "cases" / "videos"
_LARGEST = 400_000
_ANYWHERE = (flip, flip, number, number, cut, drop, repeat, splice, zeros)
_FOLDERS = frozenset(b"moov trak mdia minf stbl moof traf edts dinf mvex udta".split())
_TABLES = frozenset(b"stsz stts stsc stco co64 ctts elst trun tfhd tkhd mdhd mvhd stsd stss sidx hdlr".split())
_NAMES = (*sorted(_FOLDERS | _TABLES), b"mdat", b"free", b"uuid", b"ftyp", b"\0\0\0\0", b"avc1", b"hev1", b"mp4a")


def seeds() -> list[bytes]:
    """Return small good files: the shared ones, if they are there, and others of each kind that is signed or marked."""
    found = [path for folder in (ARRIVALS, CASES) if folder.exists() for path in sorted(folder.iterdir())]
    files = {path.read_bytes() for path in found if path.stat().st_size <= _LARGEST and path.stem != "html"}
    made = [_animation("GIF"), _animation("WEBP"), _wav()]
    with tempfile.TemporaryDirectory() as folder:
        for makes, form in (("video", "mp4"), ("audio", "mp3"), ("audio", "flac"), ("image", "png"), ("image", "jpeg")):
            path = Path(folder) / f"file.{form}"
            render(Recipe("a fox", 7, 9, 16, 96, 64, makes=makes, form=form), path)
            made.append(path.read_bytes())
    return [*sorted(files), *made, made[-5]]


def _animation(kind: str) -> bytes:
    pictures, made = [Image.effect_noise((64, 48), 60 + at).convert("RGB") for at in range(4)], io.BytesIO()
    pictures[0].save(made, kind, save_all=True, append_images=pictures[1:], duration=40)
    return made.getvalue()


def _wav() -> bytes:
    made = io.BytesIO()
    with wave.open(made, "wb") as sound:
        sound.setparams((2, 2, 8000, 0, "NONE", ""))
        sound.writeframes(random.Random(1).randbytes(16_000))
    return made.getvalue()


def _boxes(data: bytes | bytearray, start: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if size < 8 or start + size > end:
            return
        yield start, size, kind
        if kind in _FOLDERS:
            yield from _boxes(data, start + 8, start + size)
        start += size


def _boxed(data: bytearray, chance: random.Random) -> bytearray:
    """Change one box of an MP4: its size, its name, its place, or what a table of samples, edits or sizes says."""
    found = list(_boxes(data, 0, len(data)))
    if not found:
        return data
    tables = [box for box in found if box[2] in _TABLES]
    at, size, kind = chance.choice(tables if tables and chance.random() < 0.75 else found)
    how = chance.choice(("size", "near", "name", "drop", "twice", "edit", "table", "table", "table", "table"))
    if how == "size":
        data[at : at + 4] = struct.pack(">I", chance.choice(INTERESTING))
    elif how == "near":
        data[at : at + 4] = struct.pack(">I", max(0, size + chance.randrange(-16, 17)))
    elif how == "name":
        data[at + 4 : at + 8] = chance.choice(_NAMES)
    elif how == "drop":
        del data[at : at + size]
    elif how == "twice":
        data[at:at] = data[at : at + size]
    elif how == "edit":  # parts of no length, before the start, at no speed
        entries = b"".join(struct.pack(">IiI", *(chance.choice(INTERESTING) & 0x7FFFFFFF for _ in "123")) for _ in "12")
        edits = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, chance.choice((2, 2, 0xFFFFFFF, 0))) + entries
        data[at:at] = struct.pack(">I4s", 8 + len(edits), b"edts") + edits
    elif kind in _TABLES and size >= 16:
        for _ in range(chance.choice((1, 1, 2, 6))):
            where = at + 8 + 2 * chance.randrange((size - 10) // 2)
            layout = chance.choice((">I", ">I", ">H"))
            most = 256 ** struct.calcsize(layout) - 1
            packed = struct.pack(layout, chance.choice(INTERESTING) & most)
            data[where : where + len(packed)] = packed
    return data


def mutated(files: list[bytes], chance: random.Random) -> bytes:
    """Return a spoiled file: most of the changes are where a file says what is in it."""
    data = bytearray(chance.choice(files))
    is_mp4 = data[4:8] == b"ftyp"
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        if is_mp4 and chance.random() < 0.6:
            data = _boxed(data, chance)
            continue
        mutate = chance.choice(_ANYWHERE)
        if chance.random() < 0.4 and len(data) > 300 and mutate is not cut:
            data = mutate(data[:300], chance, files) + data[300:]
        else:
            data = mutate(data, chance, files)
        if not data:
            break
    return bytes(data)


def _archived(data: bytes, name: str, url: str, answers: dict[str, bytes], store: Store) -> str:
    """Archive a file, and return its verdict; an error if what is in the bucket is not made of it."""
    answers[f"/{name}.mp4"] = data
    facts = GenerationFacts(model_id="a/b", request_id=name, generation_key="0" * 64)
    made = asyncio.run(archive_output(f"{url}/{name}.mp4", 0, facts, store, hosts=HostPolicy(allowed=("127.0.0.1",))))
    del answers[f"/{name}.mp4"]
    stored = store.read(made.key, limit_bytes=10**8)
    provenance = Provenance.from_json(store.read(made.provenance_key, limit_bytes=10**7))
    assert provenance.sha256 == hashlib.sha256(stored).hexdigest()
    packed = any("unpacked" in warning for warning in made.warnings)
    assert packed or (provenance.source_sha256 or provenance.sha256) == hashlib.sha256(data).hexdigest()
    assert provenance.quality is not None
    return provenance.quality.verdict


def _judged(path: Path, data: bytes) -> str:
    with path.open("rb", buffering=0) as file:
        kind = sniff(data[:SNIFF_BYTES]) or by_name("", "")
        quality = judge(file, len(data), kind, decode).quality  # type: ignore[arg-type]
    return f"{quality.verdict}: {quality.reasons[0]}" if quality.verdict == "not_judged" else quality.verdict


def fuzz(count: int, seed: int, every: int) -> dict[str, Any]:
    """Return what became of so many files: verdicts, the longest time in seconds, the most memory in MB."""
    chance, files = random.Random(seed), seeds()
    verdicts, reasons, longest, archived = Counter[str](), Counter[str](), 0.0, 0
    path = Path(tempfile.mkdtemp(prefix="media-")) / "file"
    print(path, flush=True)
    answers: dict[str, bytes] = {}
    with running_object_store() as running, answering(lambda request, _: Reply(answers[request.path])) as url:
        store = Store("videos", f"fuzz-{seed}", session=running.session(), endpoint_url=running.endpoint_url)
        for at in range(count):
            data = mutated(files, chance)
            path.write_bytes(data)
            began = time.monotonic()
            verdict, _, reason = _judged(path, data).partition(": ")
            took = time.monotonic() - began
            if took > 5:
                path.with_name(f"slow-{at}").write_bytes(data)
            longest = max(longest, took)
            assert verdict in VERDICTS
            verdicts[verdict] += 1
            reasons.update([reason] if reason else [])
            if every and data and at % every == 0:
                again = _archived(data, f"{at}-{len(data)}", url, answers, store)
                archived += 1
                assert again == verdict or data[:2] == b"\x1f\x8b", (again, verdict)  # that one was unpacked
    own, child = (resource.getrusage(who).ru_maxrss // 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "files": count, "verdicts": dict(verdicts), "not_judged": dict(reasons), "longest_s": round(longest, 1),
        "archived": archived, "lost": 0, "peak_mb": own, "child_peak_mb": child,
    }  # fmt: skip


if __name__ == "__main__":
    words = [int(word) for word in sys.argv[1:]]
    print(json.dumps(fuzz(words[0], *(words[1:] + [1, 10][len(words) - 1 :])), indent=1))
