"""Measure the judging of a video: time and memory, against `ffmpeg -f null`, and PyAV that does nothing but decode.

Run `python -m benchmarks.judging [--size 2 ...] [--ffmpeg PATH]` by hand, sizes in megabytes; without an `ffmpeg`, PyAV
is the measure. Every way is a process of its own, and all of them take turns, so that whatever else this machine does
affects all; the ratio is of processor time. What a process needs to start is measured without a file, and taken off.
The last way is that of a worker: the peak is its own, that of the process that decodes for it is in the line before.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
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
    "run(decoded, {{'format': 'mp4', 'detect': {detect}, 'sheet': {sheet}, 'parent': __import__('os').getppid()}})"
)
_WORKER = (
    "import json; from runcomfy.media.decoding import decode\n"
    "order = {{'by': 'ffmpeg', 'format': 'mp4'}}\n"
    "with open('{path}', 'rb', buffering=0) as file: found = decode(file, order, sheet=True)\n"
    "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
    "print(json.dumps(found.facts), peak.split()[1])"
)
_LAUNCH = (  # small, since the peak of a process begins with that of the one that it was forked from
    "import os, sys; pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ); _, status, used = os.wait4(pid, 0); "
    "print(status, used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)"
)
_FFMPEG, _PYAV, _DECODE, _WAITS = "ffmpeg -f null", "PyAV alone", "decode", "a worker with all of it"
_WAYS = (_FFMPEG, _PYAV, _DECODE, "decode, detectors", "decode, detectors, sheet", _WAITS)
_NOTHING = {
    _PYAV: "import av", _DECODE: "import runcomfy.media.isolation, runcomfy.media.motion_decoding",
    _WAITS: "import runcomfy.media.decoding",
}  # fmt: skip


def main() -> None:
    """Measure every way at every size, and print a Markdown table of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", action="append", type=int, help="megabytes; may be repeated")
    parser.add_argument("--repeat", type=int, default=3, help="how often each way is measured; the median counts")
    parser.add_argument("--ffmpeg", default=shutil.which("ffmpeg"), help="the program; the one that is found, if any")
    wanted = parser.parse_args()
    ways = [way for way in _WAYS if way != _FFMPEG or wanted.ffmpeg]
    print(
        f"| MB | frames | way | seconds | CPU of {ways[0]} | CPU s | peak MB |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        starts = {way: _begun(way) for way in ways}
        start = {
            way: _median([_measured(each, None, 0, wanted.ffmpeg) for _ in range(wanted.repeat)])
            for way, each in starts.items() if way == each
        }  # fmt: skip
        for size in wanted.size or [2, 20, 200]:
            path = Path(folder) / f"{size}.mp4"
            frames = _render(path, size * 10**6)
            rounds = [{way: _measured(way, path, frames, wanted.ffmpeg) for way in ways} for _ in range(wanted.repeat)]
            alone = 0.0
            for way in ways:
                seconds, cpu, peak = _median([each[way] for each in rounds])
                seconds, cpu = max(0.001, seconds - start[starts[way]][0]), max(0.0, cpu - start[starts[way]][1])
                alone = cpu if way == ways[0] else alone
                numbers = f"{seconds:.2f} | {cpu / max(alone, 0.001):.2f} | {cpu:.2f} | {peak:.0f}"
                print(f"| {size} | {frames} | {way} | {numbers} |", flush=True)
            path.unlink()
        print("\nStart of each process:", ", ".join(f"{way} {start[way][0]:.2f} s" for way in start))


def _begun(way: str) -> str:
    """Return the way that starts as this one does."""
    return way if way in (_FFMPEG, *_NOTHING) else _DECODE


def _median(measured: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    return tuple(statistics.median(column) for column in zip(*measured, strict=True))  # type: ignore[return-value]


def _measured(way: str, path: Path | None, frames: int, ffmpeg: str | None) -> tuple[float, float, float]:
    """Return seconds, seconds of processor time, and the peak in MB of one process; of a worker, that of the worker."""
    began = time.monotonic()
    with (path or Path(os.devnull)).open("rb") as file:
        done = subprocess.run(  # noqa: S603 - our own interpreter, or the program that was named
            [sys.executable, "-I", "-S", "-c", _LAUNCH, *_command(way, path, frames, ffmpeg)],
            stdin=file, capture_output=True, check=True,
        )  # fmt: skip
    seconds = time.monotonic() - began
    status, cpu, peak = map(float, done.stderr.split()[-3:])
    found, end = json.JSONDecoder().raw_decode(said) if (said := done.stdout.decode()).startswith("{") else (None, 0)
    if status or (found is not None and found["frames"] != frames):
        raise SystemExit(f"{way} did not decode all frames")
    return seconds, cpu, (float(said[end:].split()[0]) if way == _WAITS and path else peak) / 1024


def _command(way: str, path: Path | None, frames: int, ffmpeg: str | None) -> list[str]:
    large = frames * _WIDTH * _HEIGHT / 1e6 > 400  # as runcomfy.media.motion_decoding does
    threads = 4 if large else 1
    if way == _FFMPEG:
        decode = ["-threads", str(threads), "-i", str(path), "-map", "0:v:0", "-f", "null", "-"]
        return [ffmpeg or "ffmpeg", "-nostdin", "-v", "error", *(decode if path else ["-version"])]
    paths = [str(Path(__file__).parents[1]), *(each for each in sys.path if each)]
    if path is None:
        program = _NOTHING[way]
    elif way == _PYAV:
        program = _PLAIN.format(path=path, threads=threads, kind="AUTO" if large else "SLICE")
    elif way == _WAITS:
        program = _WORKER.format(path=path)
    else:
        program = _OURS.format(detect="detectors" in way, sheet="sheet" in way)
    return [sys.executable, "-I", "-S", "-c", _START.format(paths=paths) + "\n" + program]


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
