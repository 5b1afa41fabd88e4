"""Outputs that are whole files and no good: black, frozen, blurred, damaged, silent, clipped, of another size, a still.

With them users try out what becomes of such a file in their own pipeline. A defect that a file cannot have, such as
silence in an image, leaves it as it is.
"""

from __future__ import annotations

import io
import math
from array import array
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import av
from PIL import Image, ImageFilter

from runcomfy.sandbox.render import mux_sound

__all__ = ["DEFECTS", "with_defect"]

DEFECTS = frozenset({"black", "frozen", "blurred", "damaged_after", "silent", "clipped", "wrong_size", "still"})

_RATE, _HERTZ = 24_000, 440
_LOUDER = 4.0
_BLUR_SHARE = 1 / 16
_FORMATS = {"audio/mpeg": ("mp3", "libmp3lame"), "audio/wav": ("wav", "pcm_s16le"), "audio/flac": ("flac", "flac"),
            "audio/ogg": ("ogg", "libopus")}  # fmt: skip
_PILLOW = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}


def with_defect(data: bytes, content_type: str, how: str, facts: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return a file with a defect, and its media type; blocks.

    Args:
        data: The good file.
        content_type: Its media type.
        how: The defect, one of `DEFECTS`.
        facts: Its parameters: `percent` of `damaged_after`.
    """
    if how == "damaged_after":
        return _damaged(data, float(facts["percent"])), content_type
    if content_type == "video/mp4":
        if how == "still":
            return _encoded(_frame_images(data)[0], "JPEG"), "image/jpeg"
        return (_with_sound(data, how) if how in ("silent", "clipped") else _video(data, how)), content_type
    if content_type in _PILLOW and how in ("black", "blurred", "wrong_size"):
        with Image.open(io.BytesIO(data)) as image:
            return _encoded(_CHANGES[how](image.convert("RGB")), _PILLOW[content_type]), content_type
    if content_type in _FORMATS and how in ("silent", "clipped"):
        return _sound(data, content_type, how), content_type
    return data, content_type


_CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "black": lambda image: Image.new("RGB", image.size),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(max(3, min(image.size) * _BLUR_SHARE))),
    "wrong_size": lambda image: image.resize((image.width // 4 * 2 or 2, image.height // 4 * 2 or 2)),
    "frozen": lambda image: image,
}


def _damaged(data: bytes, percent: float) -> bytes:
    start, end = 0, len(data)
    if data[4:8] == b"ftyp" and (at := data.find(b"mdat")) > 0:
        start, end = at + 4, at - 4 + int.from_bytes(data[at - 4 : at], "big")
    keep = start + round((end - start) * min(max(percent, 0.0), 100.0) / 100)
    return data[:keep] + bytes(end - keep) + data[end:]


def _encoded(image: Image.Image, name: str) -> bytes:
    made = io.BytesIO()
    image.save(made, name, quality=90)
    return made.getvalue()


def _frame_images(data: bytes) -> list[Image.Image]:
    with av.open(io.BytesIO(data), "r", format="mp4") as source:
        return [frame.to_image() for frame in source.decode(video=0)]  # type: ignore[no-untyped-call]


def _video(data: bytes, how: str) -> bytes:
    made, images = io.BytesIO(), _frame_images(data)
    with av.open(io.BytesIO(data), "r", format="mp4") as source:
        rate = source.streams.video[0].average_rate or Fraction(16)
    with av.open(made, "w", format="mp4") as target:
        stream = target.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "21", "threads": "1"})
        for index, image in enumerate(images):
            changed = _CHANGES[how](images[0] if how == "frozen" else image)
            if index == 0:
                stream.width, stream.height, stream.pix_fmt = *changed.size, "yuv420p"
            frame = av.VideoFrame.from_image(changed)  # type: ignore[no-untyped-call]
            frame.pts = index
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return made.getvalue()


def _with_sound(data: bytes, how: str) -> bytes:
    made = io.BytesIO()
    with av.open(io.BytesIO(data), "r", format="mp4") as source, av.open(made, "w", format="mp4") as target:
        stream = source.streams.video[0]
        copy, sound = target.add_stream_from_template(stream), target.add_stream("aac", rate=_RATE, layout="mono")
        seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 1.0
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
        tone = (math.sin(2 * math.pi * _HERTZ * index / _RATE) for index in range(round(seconds * _RATE)))
        mux_sound(target, sound, _loud(tone, how), _RATE)
    return made.getvalue()


def _sound(data: bytes, content_type: str, how: str) -> bytes:
    form, codec = _FORMATS[content_type]
    made, samples = io.BytesIO(), array("h")
    with av.open(io.BytesIO(data), "r", format=form) as source:
        resampler = av.AudioResampler("s16", "mono", _RATE)
        for frame in source.decode(audio=0):
            for each in resampler.resample(frame):
                samples.frombytes(bytes(each.planes[0])[: 2 * each.samples])
    loudest = max(1, *map(abs, samples)) if samples else 1
    with av.open(made, "w", format=form) as target:
        stream: Any = target.add_stream(codec, rate=_RATE, layout="mono")
        mux_sound(target, stream, _loud((value / loudest for value in samples), how), _RATE)
    return made.getvalue()


def _loud(samples: Iterator[float], how: str) -> array[int]:
    """Return samples of -1 to 1 as 16 bits: far too loud, or silent."""
    gain = 0.0 if how == "silent" else _LOUDER
    return array("h", (round(32767 * min(1.0, max(-1.0, gain * value))) for value in samples))
