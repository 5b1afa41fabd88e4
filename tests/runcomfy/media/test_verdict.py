"""Every frame is decoded: the verdict on good files and on each defect, and that nothing ends with the decoder."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import random
import signal
import sys
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from runcomfy.media import probe
from runcomfy.media.decoding import Decoded, decode
from runcomfy.media.kinds import SNIFF_BYTES, by_name, sniff
from runcomfy.media.quality import Judged, judge
from runcomfy.media.validation import OutputValidation
from runcomfy.media.verdict import with_differences
from runcomfy.sandbox.defects import DEFECTS, with_defect
from runcomfy.sandbox.render import Recipe, render
from runcomfy.values import Quality
from tests.corpus.good_files import good_files

CASES = Path(__file__).parents[4] / "shared" / "cases" / "videos"
VIDEO = Recipe("a cat walks along the beach", 7, 33, 16, 416, 240)
SOUND = Recipe("rain", 7, 33, 16, 64, 36, makes="audio", form="flac")
IMAGE = Recipe("rain", 7, 33, 16, 416, 240, makes="image", form="png")
ASKED = OutputValidation(makes="video", frames=33, resolution="240p")


def judged(folder: Path, data: bytes, check: Callable[[], None] = lambda: None) -> Judged:
    path = folder / "file"
    path.write_bytes(data)
    with path.open("rb", buffering=0) as file:
        kind = sniff(data[:SNIFF_BYTES]) or by_name("", "")
        return judge(file, len(data), kind, lambda opened, order: decode(opened, order, check))  # type: ignore[arg-type]


def verdict(folder: Path, data: bytes) -> Quality:
    return judged(folder, data).quality


def rendered(folder: Path, recipe: Recipe) -> bytes:
    path = folder / f"good.{recipe.form}"
    render(recipe, path)
    return path.read_bytes()


def children() -> list[int]:
    found = []
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        found += [int(pid) for pid in (task / "children").read_text().split()]
    return [pid for pid in found if b"motion_decoding" in command_of(pid)]


def command_of(pid: int) -> bytes:
    """Return the command of a process, which is empty for a moment after it began."""
    with contextlib.suppress(OSError):
        while Path(f"/proc/{pid}/status").read_text().find("zombie") < 0:
            if command := Path(f"/proc/{pid}/cmdline").read_bytes():
                return command
    return b""


# the verdicts


@pytest.mark.parametrize(
    ("defect", "expected"),
    [
        ("", "good"), ("black", "suspect"), ("frozen", "suspect"), ("blurred", "suspect"), ("silent", "suspect"),
        ("clipped", "suspect"), ("damaged_after", "damaged"), ("wrong_size", "suspect"), ("still", "suspect"),
    ],
)  # fmt: skip
def test_each_defect_of_the_sandbox_gets_its_verdict(tmp_path: Path, defect: str, expected: str) -> None:
    """And a video without any is good, with nothing to say."""
    data, content_type = rendered(tmp_path, VIDEO), "video/mp4"
    if defect:
        data, content_type = with_defect(data, content_type, defect, {"percent": 40})
    found = judged(tmp_path, data)

    quality = with_differences(found.quality, ASKED.defects(found.facts, content_type))

    assert (quality.verdict, bool(quality.reasons)) == (expected, expected != "good")
    assert quality.thresholds["frozen_min_seconds"] == 1.0


def test_every_defect_is_tried() -> None:
    """None is forgotten in the test above."""
    assert set(DEFECTS) == {"black", "frozen", "blurred", "silent", "clipped", "damaged_after", "wrong_size", "still"}


def test_what_is_measured_has_times(tmp_path: Path) -> None:
    """Frames decoded and damaged, and where the damage begins."""
    facts = verdict(
        tmp_path, with_defect(rendered(tmp_path, VIDEO), "video/mp4", "damaged_after", {"percent": 50})[0]
    ).facts

    assert facts.frames_decoded is not None and 0 < facts.frames_decoded < 33
    assert facts.frames_damaged is not None and facts.frames_damaged + facts.frames_decoded >= 33
    assert facts.first_damage_seconds is not None and 0 < facts.first_damage_seconds < 2.1
    assert (facts.sizes, facts.variable_frame_rate is not None) == (((416, 240),), True)


@pytest.mark.parametrize(
    ("defect", "expected"), [("", "good"), ("silent", "suspect"), ("clipped", "suspect"), ("damaged_after", "damaged")]
)
def test_a_sound_is_listened_to(tmp_path: Path, defect: str, expected: str) -> None:
    """All its samples: a part that is missing in the middle is found by its length."""
    data = rendered(tmp_path, SOUND)
    quality = verdict(tmp_path, with_defect(data, "audio/flac", defect, {"percent": 40})[0] if defect else data)

    assert quality.verdict == expected
    if defect in ("", "silent"):
        assert (quality.facts.loudness_lufs is None) == (defect == "silent")


@pytest.mark.parametrize(("defect", "expected"), [("", "good"), ("black", "suspect"), ("damaged_after", "damaged")])
def test_an_image_is_decoded_to_its_end(tmp_path: Path, defect: str, expected: str) -> None:
    """And one of one colour is suspect."""
    data = rendered(tmp_path, IMAGE)
    quality = verdict(tmp_path, with_defect(data, "image/png", defect, {"percent": 40})[0] if defect else data)

    assert quality.verdict == expected


@pytest.mark.parametrize("said", [0xFFFFFFFF, 0xFFFFFFF7, 0x80000000, 0x7FFFFFFF, 0x7FFFF024, 0])
def test_a_wav_that_was_streamed_is_not_cut(tmp_path: Path, said: int) -> None:
    """Who writes it does not know its size yet, and speech is often made so; one that is cut is found all the same."""
    made = io.BytesIO()
    with wave.open(made, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(b"\0\x10\0\xf0" * 4000)
    data = made.getvalue()
    at = data.find(b"data") + 4
    size = max(0, said - at + 4).to_bytes(4, "little")
    streamed = data[:4] + said.to_bytes(4, "little") + data[8:at] + size + data[at + 4 :]

    assert verdict(tmp_path, streamed).verdict == "good"
    assert verdict(tmp_path, data[:-2000]).verdict == "damaged"


def test_a_png_with_a_wrong_checksum_is_damaged(tmp_path: Path) -> None:
    """Pillow shows what it makes of such pixels without a word; texts beside them do not matter."""
    data = rendered(tmp_path, IMAGE)
    pixels, end = data.find(b"IDAT"), len(data) - 12
    text = b"\0\0\0\4tEXta\0bc" + bytes(4)

    assert verdict(tmp_path, data[: pixels - 4] + text + data[pixels - 4 :]).verdict == "good"
    flipped = data[: end - 2] + bytes([data[end - 2] ^ 1]) + data[end - 1 :]
    assert verdict(tmp_path, flipped).verdict == "damaged"


def test_pictures_of_an_unknown_codec_are_not_called_good(tmp_path: Path) -> None:
    """Though its sound is."""
    data = next(good.data for good in good_files() if "libx264" in good.name and "aac" in good.name)
    at = data.rfind(b"avc1")

    found = verdict(tmp_path, data[:at] + b"zzz9" + data[at + 4 :])

    assert found.verdict == "not_judged" and found.facts.sound_seconds


def test_a_machine_that_is_too_slow_makes_no_file_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Little is known of it then, which is said."""
    monkeypatch.setattr(probe, "_MAX_SECONDS", -1.0)

    found = judged(tmp_path, rendered(tmp_path, VIDEO))

    assert (found.damage, found.missing, found.quality.verdict) == (None, None, "good")
    assert any("could not read it within" in warning for warning in found.warnings)


@pytest.mark.skipif(not CASES.exists(), reason="the shared cases are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("damaged_middle.mp4", "damaged"), ("allblack.mp4", "suspect"), ("frozen.mp4", "suspect"),
        ("trunc.mp4", "damaged"), ("oneframe.mp4", "good"), ("gz.mp4", "not_judged"), ("opus.webm", "good"),
    ],
)  # fmt: skip
def test_the_shared_cases_get_their_verdict(tmp_path: Path, name: str, expected: str) -> None:
    """Files that were archived without a warning once."""
    assert verdict(tmp_path, (CASES / name).read_bytes()).verdict == expected


@pytest.mark.slow
def test_no_good_file_is_called_damaged(tmp_path: Path) -> None:
    """Of any codec and container that can be written here; nor is one left unjudged."""
    verdicts = {good.name: verdict(tmp_path, good.data).verdict for good in good_files()}

    assert len(verdicts) >= 60
    assert {name: found for name, found in verdicts.items() if found not in ("good", "suspect")} == {}


@pytest.mark.parametrize(("frames", "shown"), [(33, (3, 3)), (5, (3, 2)), (300, (3, 3))])
def test_a_contact_sheet_shows_frames_of_the_whole_video(tmp_path: Path, frames: int, shown: tuple[int, int]) -> None:
    """Three by three, or as many as there are, each as large as on the others."""
    data = rendered(tmp_path, replace(VIDEO, frames=frames, width=64, height=36))
    (tmp_path / "file").write_bytes(data)
    with (tmp_path / "file").open("rb", buffering=0) as file:
        found = decode(file, {"by": "ffmpeg", "format": "mp4"}, sheet=True)  # type: ignore[arg-type]

    assert found.sheet is not None and found.facts is not None and "sheet" not in found.facts
    with Image.open(io.BytesIO(found.sheet)) as image:
        assert (image.format, image.size) == ("JPEG", (4 + shown[0] * 68, 4 + shown[1] * 40))


# what becomes of the process


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_decoder_that_crashes_leaves_the_file_unjudged(tmp_path: Path, number: signal.Signals) -> None:
    """The bytes are not decoded in this process either."""

    def crash() -> None:
        for pid in children():
            os.kill(pid, number)

    found = judged(tmp_path, rendered(tmp_path, VIDEO), crash)

    assert found.quality.verdict == "not_judged"
    assert found.quality.reasons == (f"It was not judged: the decoder crashed on it ({number.name}).",)
    assert (found.image, found.damage, found.facts.container) == (None, None, "mp4")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
def test_a_transfer_that_is_stopped_ends_the_decoder(tmp_path: Path) -> None:
    """Whatever the check raises; no process is left."""

    class Stopped(BaseException):
        pass

    def stop() -> None:
        if children():
            raise Stopped

    with pytest.raises(Stopped):
        judged(tmp_path, rendered(tmp_path, VIDEO), stop)
    assert children() == []


@pytest.mark.parametrize("how", ["no interpreter", "embedded", "frozen"])
def test_without_another_process_the_file_is_kept_unjudged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What its first frame shows is known as before. A frozen program must not be started a second time."""
    if how == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    else:
        monkeypatch.setattr(sys, "executable", "/nowhere/python3" if how == "no interpreter" else "/bin/uwsgi")
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
    found = judged(tmp_path, rendered(tmp_path, VIDEO))

    assert found.quality.verdict == "not_judged"
    assert "no process could be started" in found.quality.reasons[0]
    assert (found.facts.frames, found.damage) == (33, None)


def test_an_unusual_path_and_environment_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sys.path` may hold anything, and the environment's secrets stay here."""
    monkeypatch.setattr(sys, "path", [Path("/nowhere"), *sys.path])
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text("raise SystemExit(9)")

    assert verdict(tmp_path, rendered(tmp_path, VIDEO)).verdict == "good"


def _in_a_fork(folder: Path, data: bytes, answers: Any) -> None:
    answers.put(verdict(folder, data).verdict)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_judges_too(tmp_path: Path) -> None:
    """Whatever this one was decoding when it forked."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=_in_a_fork, args=(tmp_path, rendered(tmp_path, VIDEO), answers))
    process.start()
    try:
        assert answers.get(timeout=120) == "good"
    finally:
        process.kill()
        process.join()


def test_a_file_that_is_not_on_disk_is_not_judged() -> None:
    """Rather than that it fails."""
    assert isinstance(found := decode(io.BytesIO(b"x"), {"by": "ffmpeg", "format": "mp4"}), Decoded)
    assert (found.facts, found.hostile) == (None, False)


@pytest.mark.slow
def test_mutated_files_end_in_a_verdict(tmp_path: Path) -> None:
    """Whatever their bytes are."""
    whole, dice = rendered(tmp_path, VIDEO), random.Random(7)
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 10, 200))):
            data[dice.randrange(len(data))] = dice.randrange(256)
        assert verdict(tmp_path, bytes(data)).verdict in ("good", "suspect", "damaged", "not_judged")
