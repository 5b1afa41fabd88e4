"""Measure the judging of a video: time and memory, against decoding the same frames with PyAV and nothing else.

Run `python -m benchmarks.judging [--size 2 ...]` by hand, sizes in megabytes. Every way is a process of its own, and
all of them take turns, so that whatever else this machine does affects all; the ratio is of processor time. What a
process needs to start is measured with an empty order, and taken off.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
from PIL import Image

__all__ = ["main"]

_WIDTH, _HEIGHT, _RATE = 1280, 720, 24
_START = "import sys; sys.path[:0] = {paths!r}; "
_PLAIN = (
    "import av\nwith av.open('{path}') as file:\n"
    "    stream = file.streams.video[0]\n"
    "    stream.codec_context.thread_count, stream.codec_context.thread_type = {threads}, {kind!r}\n"
    "    for frame in file.decode(stream): pass"
)
_OURS = (
    "from runcomfy.media.isolation import run; from runcomfy.media.motion_decoding import decoded\n"
    "run(decoded, {{'format': 'mp4', 'detect': {detect}, 'sheet': {sheet}, 'parent': {parent}}})"
)
_WAYS = ("PyAV alone", "decode", "decode, detectors", "decode, detectors, sheet")


def main() -> None:
    """Measure every way at every size, and print a Markdown table of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", action="append", type=int, help="megabytes; may be repeated")
    parser.add_argument("--repeat", type=int, default=3, help="how often each way is measured; the median counts")
    wanted = parser.parse_args()
    print(
        "| MB | frames | way | seconds | CPU of PyAV alone | CPU s | peak MB |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        start = {way: _median([_measured(way, None, 0) for _ in range(wanted.repeat)]) for way in _WAYS[:2]}
        for size in wanted.size or [2, 20, 200]:
            path = Path(folder) / f"{size}.mp4"
            frames = _render(path, size * 10**6)
            rounds = [{way: _measured(way, path, frames) for way in _WAYS} for _ in range(wanted.repeat)]
            alone = 0.0
            for way in _WAYS:
                base = start[way if way == _WAYS[0] else _WAYS[1]]
                seconds, cpu, peak = _median([each[way] for each in rounds])
                seconds, cpu = max(0.001, seconds - base[0]), max(0.0, cpu - base[1])
                alone = cpu if way == _WAYS[0] else alone
                numbers = f"{seconds:.2f} | {cpu / max(alone, 0.001):.2f} | {cpu:.2f} | {peak:.0f}"
                print(f"| {size} | {frames} | {way} | {numbers} |", flush=True)
            path.unlink()
        print(f"\nStart of the process: {start[_WAYS[1]][0]:.2f} s; of PyAV alone: {start[_WAYS[0]][0]:.2f} s.")


def _median(measured: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    return tuple(statistics.median(column) for column in zip(*measured, strict=True))  # type: ignore[return-value]


def _measured(way: str, path: Path | None, frames: int) -> tuple[float, float, float]:
    paths = [str(Path(__file__).parents[1]), *(each for each in sys.path if each)]
    large = frames * _WIDTH * _HEIGHT / 1e6 > 400  # as runcomfy.media.motion_decoding does
    plain = _PLAIN.format(path=path, threads=4 if large else 1, kind="AUTO" if large else "SLICE")
    ours = _OURS.format(detect="detectors" in way, sheet="sheet" in way, parent=os.getpid())
    nothing = "import av" if way == _WAYS[0] else "import runcomfy.media.isolation, runcomfy.media.motion_decoding"
    program = _START.format(paths=paths) + "\n" + (nothing if path is None else plain if way == _WAYS[0] else ours)
    report = "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with (path or Path(os.devnull)).open("rb") as file:
        command = [sys.executable, "-I", "-S", "-c", program + report]
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        answer = process.stdout.read() if process.stdout is not None else b""
        _, _, used = os.wait4(process.pid, 0)
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if path is not None and way != _WAYS[0] and json.loads(answer)["frames"] != frames:
        raise SystemExit(f"{way} did not decode all frames")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, used.ru_maxrss / 1024


def _render(path: Path, size_bytes: int) -> int:
    """Write a video of this size: moving noise over moving colours, about as large a frame as a camera's."""
    dice, frames = random.Random(7), 0  # noqa: S311 - repeatable on purpose
    grain = Image.frombytes("L", (_WIDTH // 4, _HEIGHT // 4), dice.randbytes(_WIDTH * _HEIGHT // 16))
    with av.open(str(path), "w", format="mp4") as target:
        options = {"preset": "ultrafast", "crf": "24", "threads": "2"}
        stream = target.add_stream("libx264", rate=_RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        written = 0
        while written < size_bytes:
            shift = frames * 3 % (_WIDTH // 8)
            luma = grain.crop((shift, 0, shift + _WIDTH // 8, _HEIGHT // 8)).resize((_WIDTH, _HEIGHT))
            picture = av.VideoFrame(_WIDTH, _HEIGHT, "yuv420p")
            for plane, image in zip(
                picture.planes, (luma, *[luma.resize((_WIDTH // 2, _HEIGHT // 2))] * 2), strict=True
            ):
                plane.update(image.crop((0, 0, plane.line_size, plane.height)).tobytes())
            picture.pts, frames = frames, frames + 1
            for packet in stream.encode(picture):
                written += packet.size
                target.mux(packet)
        target.mux(stream.encode(None))
    return frames


if __name__ == "__main__":
    main()
