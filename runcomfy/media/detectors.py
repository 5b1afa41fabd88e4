"""Look at frames and samples as they are decoded, through FFmpeg's filters: black, frozen, blurred, silent, clipped.

Frames are looked at in a small copy, so that looking costs less than decoding does. A filter that FFmpeg lacks, or that
refuses the format, takes its own facts away and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import av
from av.filter import Graph
from av.filter.context import FilterContext

from runcomfy.media.thresholds import DETECTED as _T

__all__ = ["PictureDetector", "SoundDetector", "Spans"]

_LOOKED_AT_PIXELS = 320
_MIN_PIXELS_FOR_BLUR = 240
_MOST_SPANS = 50
_WAITING = (av.error.BlockingIOError, av.error.EOFError)


class Spans:
    """Spans of time in seconds, from the events of a filter or from single frames."""

    def __init__(self) -> None:
        """Begin with none."""
        self.found: list[list[float]] = []
        self.seconds = 0.0
        self._open: float | None = None

    def open(self, at: float) -> None:
        """Begin one, unless one is open."""
        self._open = at if self._open is None else self._open

    def close(self, at: float) -> None:
        """End the one that is open."""
        if self._open is not None and at > self._open:
            self.seconds += at - self._open
            if len(self.found) < _MOST_SPANS:
                self.found.append([round(self._open, 3), round(at, 3)])
        self._open = None


class PictureDetector:
    """Looks at the frames of a video, in their order."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.black, self.frozen, self.blurred, self.cuts = Spans(), Spans(), Spans(), list[float]()
        self.looked_at = 0
        self._graph: Graph | None = None
        self._shape: tuple[int, int, str] | None = None
        self._works, self._end = True, 0.0

    def look(self, frame: av.VideoFrame) -> None:
        """Look at a frame."""
        shape = (frame.width, frame.height, frame.format.name)
        try:
            if shape != self._shape:
                self._shape, self._graph = shape, self._made(frame)
            if self._graph is not None:
                self._graph.push(frame)
                self._pull(self._graph)
        except (av.FFmpegError, ValueError, AttributeError):
            self._graph, self._works = None, False

    def finish(self, end: float) -> None:
        """Close what is open at the end of the video, in seconds."""
        for spans in (self.black, self.frozen, self.blurred):
            spans.close(max(end, self._end))

    def _made(self, frame: av.VideoFrame) -> Graph | None:
        if not self._works:
            return None
        blurs = min(frame.width, frame.height) >= _MIN_PIXELS_FOR_BLUR
        width = min(_LOOKED_AT_PIXELS, max(16, frame.width + frame.width % 2))
        chain = [
            ("scale", f"w={width}:h=-2:flags=fast_bilinear"),
            ("format", "yuv420p"),
            ("blackdetect", f"d={_T['black_min_seconds']}:pic_th={_T['black_pixel_share']}"
                            f":pix_th={_T['black_luma_share']}"),
            ("freezedetect", f"n={_T['frozen_difference_share']}:d={_T['frozen_min_seconds']}"),
            ("scdet", f"t={_T['scene_cut_score']}"),
        ] + ([("blurdetect", f"low={_T['edge_low_share']}:high={_T['edge_high_share']}")] if blurs else [])  # fmt: skip
        graph = Graph()
        last = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
        return _linked(graph, last, [*chain, ("buffersink", "")])

    def _pull(self, graph: Graph) -> None:
        while True:
            try:
                frame: Any = graph.pull()
            except _WAITING:
                return
            self.looked_at += 1
            self._end = at = frame.time if frame.time is not None else self._end
            facts = {name.removeprefix("lavfi."): value for name, value in frame.metadata.items()}
            _follow(self.black, facts.get("black_start"), facts.get("black_end"))
            frozen_end = facts.get("freezedetect.freeze_end")
            _follow(self.frozen, None, frozen_end)
            _follow(self.frozen, facts.get("freezedetect.freeze_start"), None)
            if "scd.time" in facts and len(self.cuts) < _MOST_SPANS and at > 0:
                self.cuts.append(round(at, 3))
            if "blur" in facts and not float(facts["blur"]) < _T["blur_width_pixels"]:  # no number: there is no edge
                self.blurred.open(at)
            else:
                self.blurred.close(at)


def _linked(graph: Graph, last: FilterContext, chain: Iterable[tuple[str, str]]) -> Graph:
    """Add these filters, one behind the other, and configure the graph."""
    for name, options in chain:
        following = graph.add(name, options)
        last.link_to(following)
        last = following
    graph.configure()
    return graph


def _follow(spans: Spans, start: str | None, end: str | None) -> None:
    if start is not None:
        spans.open(float(start))
    if end is not None:
        spans.close(float(end))


class SoundDetector:
    """Listens to the samples of a sound, in their order."""

    def __init__(self) -> None:
        """Nothing was heard yet."""
        self.silent = Spans()
        self.samples = 0
        self.loudness_lufs: float | None = None
        self.peak_dbfs: float | None = None
        self.clipped_share: float | None = None
        self._graph: Graph | None = None
        self._shape: tuple[int, str, str] | None = None
        self._works, self._rate, self._base = True, 1, Fraction(1)

    def listen(self, frame: av.AudioFrame) -> None:
        """Listen to the samples of a frame."""
        shape = (frame.sample_rate, frame.layout.name, frame.format.name)
        try:
            if shape != self._shape:
                self._shape, self._graph = shape, self._made(frame)
            if self._graph is not None:
                frame.pts, frame.time_base = self.samples, self._base
                self._graph.push(frame)
                self._pull(self._graph)
        except (av.FFmpegError, ValueError, AttributeError):
            self._graph, self._works = None, False
        self.samples += frame.samples

    @property
    def seconds(self) -> float:
        """How long the sound is that was decoded."""
        return self.samples / self._rate

    def finish(self) -> None:
        """Close what is open at the end."""
        self.silent.close(self.seconds)

    def _made(self, frame: av.AudioFrame) -> Graph | None:
        self._rate, self._base = frame.sample_rate or 1, Fraction(1, frame.sample_rate or 1)
        if not self._works:
            return None
        graph = Graph()
        last = graph.add_abuffer(
            sample_rate=frame.sample_rate, format=frame.format.name, layout=frame.layout.name, time_base=self._base
        )
        measured = "Peak_level+Peak_count+Number_of_samples"
        chain = (
            ("silencedetect", f"n={_T['silence_dbfs']}dB:d={_T['silence_min_seconds']}"),
            ("ebur128", "metadata=1:framelog=quiet"),
            ("volume", f"volume={-_T['full_scale_dbfs']}dB:precision=float"),
            ("aformat", "sample_fmts=s16"),
            ("astats", f"metadata=1:measure_perchannel=none:measure_overall={measured}"),
            ("abuffersink", ""),
        )
        return _linked(graph, last, chain)

    def _pull(self, graph: Graph) -> None:
        while True:
            try:
                frame: Any = graph.pull()
            except _WAITING:
                return
            facts = {name.removeprefix("lavfi."): value for name, value in frame.metadata.items()}
            _follow(self.silent, None, facts.get("silence_end"))
            _follow(self.silent, facts.get("silence_start"), None)
            self.loudness_lufs = _finite(facts.get("r128.I"), self.loudness_lufs)
            peak = _finite(facts.get("astats.Overall.Peak_level"), None)
            count = _finite(facts.get("astats.Overall.Peak_count"), 0.0) or 0.0
            of = _finite(facts.get("astats.Overall.Number_of_samples"), 0.0) or 0.0
            if peak is not None and of:
                channels = max(1, len(frame.layout.channels))
                full = peak > -0.01
                self.peak_dbfs = 0.0 if full else round(peak + _T["full_scale_dbfs"], 2)
                self.clipped_share = round(count / (of * channels), 6) if full else 0.0


def _finite(text: str | None, otherwise: float | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return otherwise
    return round(value, 6) if math.isfinite(value) else otherwise
