"""The picture of a sound: its loudest samples over time, as pages and players show it."""

from __future__ import annotations

import itertools
import time
from array import array
from collections.abc import Iterator, Sequence

import av
from av.container import InputContainer
from PIL import Image, ImageDraw

__all__ = ["waveform"]

_SAMPLES = 256  # of which the loudest is kept: some milliseconds
_MOST_PEAKS = 2_000_000  # hours of sound; what comes later is not in the picture
_LONGEST = 10.0  # seconds of decoding
_WIDTH, _HEIGHT, _BAR, _GAP = 640, 160, 3, 2
_PAPER, _INK, _LINE = (248, 249, 251), (52, 86, 139), (214, 220, 230)
_FULL = 32768


def waveform(container: InputContainer) -> Image.Image | None:
    """Return a picture of the first sound in a container, 640 x 160 pixels; `None` if nothing of it decodes.

    The same sound gives the same picture, with the same versions of the libraries.

    Args:
        container: It is read from where it stands.
    """
    peaks = list(itertools.islice(_peaks(container), _MOST_PEAKS))
    return _drawn(peaks) if peaks else None


def _peaks(container: InputContainer) -> Iterator[int]:
    """Yield the loudest of each few samples, up to 32768; what does not decode ends it, and is no error here."""
    until = time.monotonic() + _LONGEST
    resampler = av.AudioResampler(format="s16", layout="mono")  # at the sound's own rate: nothing high is lost
    try:
        for frame in container.decode(audio=0):
            for ready in resampler.resample(frame):
                samples = array("h", bytes(ready.planes[0])[: 2 * ready.samples])
                for start in range(0, len(samples), _SAMPLES):
                    part = samples[start : start + _SAMPLES]
                    yield max(max(part), -min(part))
            if time.monotonic() > until:
                return
    except (av.FFmpegError, ArithmeticError, LookupError, OSError, ValueError):
        return


def _drawn(peaks: Sequence[int]) -> Image.Image:
    image = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    draw, middle, bars = ImageDraw.Draw(image), _HEIGHT // 2, _WIDTH // (_BAR + _GAP)
    draw.line((0, middle, _WIDTH, middle), fill=_LINE)
    for number in range(bars):
        first = number * len(peaks) // bars
        loudest = max(peaks[first : max(first + 1, (number + 1) * len(peaks) // bars)])
        height = max(1, round(loudest / _FULL * (middle - 4)))
        left = number * (_BAR + _GAP) + _GAP // 2
        draw.rectangle((left, middle - height, left + _BAR - 1, middle + height), fill=_INK)
    return image
