"""Whatever becomes of the process that decodes a file, and whatever it says: the file is kept, and nothing hangs.

The interpreter that is started is a program of the test, as a file that takes the decoder over would make one of it;
or it is the real process, with its own bounds, whose decoder is one that hangs.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from runcomfy.archive.archive import archive_output
from runcomfy.archive.provenance import Provenance
from runcomfy.media import decoding
from runcomfy.media.decoding import Decoded, decode
from runcomfy.media.kinds import SNIFF_BYTES, by_name, sniff
from runcomfy.media.quality import Judged, judge
from runcomfy.storage.store import Store
from runcomfy.values import GenerationFacts
from tests.runcomfy.archive.test_archive import HOSTS, Answer, Source, source, video

__all__ = ["source"]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="programs with a first line that names their interpreter")

BEGIN = f"#!{sys.executable}\nimport json, os, signal, sys, time\nout = sys.stdout.buffer\n"
SAYS = {
    "nothing": (b"", "gave no answer"),
    "that it saw nothing": (b"{}", "decoded nothing of it"),
    "half an answer": (b'{"frames": 8, "pack', "gave no answer"),
    "no JSON": (bytes(range(256)), "gave no answer"),
    "no object": (b"[1]", "gave no answer"),
    "null": (b"null", "gave no answer"),
    "a text for a number": (b'{"frames": "many"}', "gave no answer"),
    "a fraction for a number": (b'{"packets": 8, "frames_damaged": 0.5}', "gave no answer"),
    "less than none": (b'{"frames": -1}', "gave no answer"),
    "no number": (b'{"seconds": NaN}', "gave no answer"),
    "no end of a span": (b'{"black": [[0]]}', "gave no answer"),
    "a number for a reason": (b'{"stopped": 5}', "gave no answer"),
    "a book for a reason": (b'{"stopped": "' + b"a" * 5000 + b'"}', "gave no answer"),
    "a deep answer": (b'{"frames": ' + b"[" * 100_000, "gave no answer"),
    "a number of a thousand digits": (b'{"frames": ' + b"9" * 10_000 + b"}", "gave no answer"),
    "a sheet that is none": (b'{"frames": 8, "sheet": "%%%"}', "gave no answer"),
}
DOES = {
    "it crashes": ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed on it (SIGSEGV)"),
    "it sleeps": ("time.sleep(600)", "did not end within"),
    "it ignores signals": (
        "[signal.signal(each, signal.SIG_IGN) for each in (2, 15, 1)]; time.sleep(600)",
        "did not end within",
    ),
    "it closes the pipe and sleeps": ("out.write(b'{\"fra'); out.flush(); os.close(1); time.sleep(600)", "SIGKILL"),
    "it says too much": ("[out.write(b'x' * 65536) for _ in range(10 ** 9)]", "does not end"),
    "it says little for ever": (
        "[(out.write(b' '), out.flush(), time.sleep(0.01)) for _ in range(10 ** 9)]",
        "did not end within",
    ),
    "it complains for ever": ("[os.write(2, b'x' * 65536) for _ in range(10 ** 9)]", "did not end within"),
    "it leaves another one behind": ("os.fork() and os._exit(3); time.sleep(5)", "ended with status 3"),
    "it ends by itself": ("sys.exit(42)", "ended with status 42"),
}


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The interpreter that is started."""
    path = tmp_path / "python3-hostile"
    monkeypatch.setattr(sys, "executable", str(path))
    return path


def written(path: Path, lines: str) -> None:
    path.write_text(BEGIN + lines)
    path.chmod(0o755)


def impatient(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """Wait no longer than a moment for what is to hang; whatever ends by itself has minutes."""
    if "did not end" in why:
        monkeypatch.setattr(decoding, "_PATIENCE_SECONDS", 0.3)
    if "SIGKILL" in why:
        monkeypatch.setattr(decoding, "_FAREWELL_SECONDS", 0.3)


def judged(data: bytes, folder: Path) -> Judged:
    path = folder / "file"
    path.write_bytes(data)
    with path.open("rb", buffering=0) as file:
        return judge(file, len(data), sniff(data[:SNIFF_BYTES]) or by_name("", ""), decode)  # type: ignore[arg-type]


def children() -> list[str]:
    """Return the names of this process's children that are a hostile program, dead or alive."""
    found = []
    for task in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for child in task.read_text().split():
            with contextlib.suppress(OSError):  # another one, that has ended since
                name = Path(f"/proc/{child}/comm").read_text().strip()
                found += [name] if name.startswith("python3-hostil") else []
    return found


@pytest.mark.parametrize("name", SAYS)
def test_an_answer_that_makes_no_sense_is_none(program: Path, tmp_path: Path, name: str) -> None:
    """Whatever is said; nothing of it is in the provenance, and the file is known by its first frame."""
    said, why = SAYS[name]
    (tmp_path / "said").write_bytes(said)
    written(program, f"out.write(open({str(tmp_path / 'said')!r}, 'rb').read())")

    found = judged(video(), tmp_path)

    assert found.quality.verdict == "not_judged" and why in found.quality.reasons[0]
    assert (found.facts.codec, found.damage, found.sheet) == ("h264", None, None)


@pytest.mark.parametrize("name", DOES)
def test_a_process_that_does_as_it_likes_is_ended(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It is waited for; none is left, nor is a thread; and the file is not decoded in this process either."""
    does, why = DOES[name]
    impatient(monkeypatch, why)
    written(program, does)
    threads = threading.active_count()

    found = judged(video(), tmp_path)

    assert found.quality.verdict == "not_judged" and why in found.quality.reasons[0]
    assert (found.image, found.damage, found.facts.container) == (None, None, "mp4")
    assert threading.active_count() <= threads
    if Path("/proc/self/task").exists():
        assert children() == []


def test_what_a_process_has_started_ends_with_it(program: Path, tmp_path: Path) -> None:
    """It ends by itself, with an answer; what it leaves holds the pipe, and a lock."""
    written(
        program,
        "import fcntl\nlock = open(sys.argv[0] + '.lock', 'w')\nfcntl.flock(lock, fcntl.LOCK_EX)\n"
        "if os.fork():\n    out.write(b'{\"frames\": 8}')\n    out.flush()\n    os._exit(0)\ntime.sleep(600)",
    )

    found = judged(video(), tmp_path)

    assert found.quality.facts.frames_decoded == 8
    with Path(f"{program}.lock").open() as lock:
        until = time.monotonic() + 120
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < until, "it lives"
                time.sleep(0.05)


def test_those_that_hang_keep_no_other_file_waiting_for_ever(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than there are processors: each gives its place back."""
    impatient(monkeypatch, "did not end")
    written(program, "time.sleep(600)")
    found: list[Decoded] = []

    def one(number: int) -> None:
        path = tmp_path / f"file-{number}"
        path.write_bytes(b"x")
        with path.open("rb", buffering=0) as file:
            found.append(decode(file, {"by": "ffmpeg", "format": "mp4"}))  # type: ignore[arg-type]

    threads = [threading.Thread(target=one, args=(number,)) for number in range(2 * (os.cpu_count() or 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [each.hostile for each in found] == [True] * len(threads)
    monkeypatch.setattr(decoding, "_PATIENCE_SECONDS", 300.0)
    written(program, "out.write(b'{\"frames\": 1}')")
    one(99)
    assert found[-1] == Decoded({"frames": 1})


TOO_SLOW = "decoding it took longer than a file of its size may take"
BOUNDED = {
    "it sleeps": (0.3, "time.sleep(600)", TOO_SLOW),
    "it lets nobody else run": (0.3, "__import__('re').match('(a+)+$', 'a' * 60 + 'b')", TOO_SLOW),
    "it eats memory": (60.0, "bytearray(1 << 34)", "it needs more memory than a file is given"),
}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="not every platform bounds a process")
@pytest.mark.parametrize("name", BOUNDED)
def test_the_process_bounds_itself(program: Path, tmp_path: Path, name: str) -> None:
    """The real one, with a decoder that hangs: its own time, processor time and memory end it, not our patience."""
    seconds, does, why = BOUNDED[name]
    lines = f"""
program, order = sys.argv[4:]
sys.path.extend(json.loads(order)["paths"])
import runcomfy.media.isolation, runcomfy.media.motion_decoding
runcomfy.media.isolation._BASE_SECONDS = runcomfy.media.isolation._GRACE_SECONDS = {seconds}
runcomfy.media.motion_decoding.decoded = lambda file, order, limits: {does}
sys.argv = ["-c", order]
exec(program)
"""
    written(program, lines)

    found = judged(video(), tmp_path)

    assert found.quality.reasons == (f"It was not judged: {why}.",)
    assert (found.image, found.damage, found.facts.codec) == (None, None, None)


@pytest.mark.parametrize("name", ["it crashes", "it sleeps", "it says too much", "a text for a number"])
async def test_a_file_whose_decoder_dies_is_archived(
    program: Path, source: Source, store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whole, with its provenance, which says why it was not judged."""
    said = SAYS.get(name, (b"", ""))[0]
    impatient(monkeypatch, DOES.get(name, ("", ""))[1])
    written(program, DOES[name][0] if name in DOES else f"out.write({said!r})")
    source.answer = Answer(video())
    facts = GenerationFacts(model_id="m", request_id="r-1", generation_key="a" * 64)

    made = await archive_output(source.url, 0, facts, store, hosts=HOSTS, contact_sheet=True)

    stored = store.read(made.key, limit_bytes=10**8)
    provenance = Provenance.from_json(store.read(made.provenance_key, limit_bytes=10**6))
    assert stored.startswith(video()) and provenance.sha256 == hashlib.sha256(stored).hexdigest()
    assert provenance.quality is not None and provenance.quality.verdict == "not_judged"
    assert provenance.quality.reasons and provenance.quality.reasons[0] in made.warnings
