"""The contact sheet of a video: nine frames with their times in one JPEG; part of the process of `isolation`.

How long a video is may not be known before its end. So frames are kept at a stride, and whenever there are too many,
every second one is dropped and the stride doubled: what is left is evenly spread, at constant memory.
"""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

import av
from PIL import Image, ImageDraw, ImageFont

__all__ = ["SHEET_PIXELS", "SheetFrames"]

SHEET_PIXELS = 320
"""The longer side of one frame on the sheet."""
_SIDE = 3
_MOST_KEPT = 4 * _SIDE * _SIDE
_GAP = 4


class _Kept(NamedTuple):
    at: float
    image: Image.Image


class SheetFrames:
    """Frames for the sheet of a video, chosen as they pass."""

    def __init__(self) -> None:
        """None was seen yet."""
        self._kept: list[_Kept] = []
        self._stride, self._seen = 1, 0

    def see(self, frame: av.VideoFrame, at: float) -> None:
        """Keep a small copy of a frame if it is its turn.

        Args:
            frame: The frame.
            at: When it is shown, in seconds.
        """
        turn, self._seen = self._seen % self._stride == 0, self._seen + 1
        if not turn:
            return
        scale = min(1.0, SHEET_PIXELS / max(frame.width, frame.height))
        width, height = max(2, round(frame.width * scale)), max(2, round(frame.height * scale))
        try:
            small = frame.reformat(width=width, height=height, format="rgb24")
            plane = small.planes[0]
            image = Image.frombuffer("RGB", (width, height), bytes(plane), "raw", "RGB", plane.line_size, 1)
        except (av.FFmpegError, ValueError):
            return
        turned = round(frame.rotation)
        self._kept.append(_Kept(at, image.rotate(turned, expand=True) if turned else image))
        if len(self._kept) >= _MOST_KEPT:
            self._kept, self._stride = self._kept[::2], self._stride * 2

    def encoded(self) -> str | None:
        """Return the sheet as a JPEG in base64; `None` if there are fewer than two frames."""
        if len(self._kept) < 2:
            return None
        count = min(_SIDE * _SIDE, len(self._kept))
        chosen = [self._kept[round(index * (len(self._kept) - 1) / (count - 1))] for index in range(count)]
        width, height = chosen[0].image.size
        rows = -(-count // _SIDE)
        sheet = Image.new("RGB", (_SIDE * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP), (24, 24, 27))
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(max(10, min(width, height) // 12))
        for index, (at, image) in enumerate(chosen):
            left, top = _GAP + index % _SIDE * (width + _GAP), _GAP + index // _SIDE * (height + _GAP)
            sheet.paste(image if image.size == (width, height) else image.resize((width, height)), (left, top))
            text = f"{at:.2f} s"
            box = draw.textbbox((left + 4, top + 3), text, font)
            draw.rectangle((box[0] - 4, box[1] - 3, box[2] + 4, box[3] + 3), (0, 0, 0))
            draw.text((left + 4, top + 3), text, (255, 255, 255), font)
        made = io.BytesIO()
        sheet.save(made, "JPEG", quality=80, optimize=True)
        return base64.b64encode(made.getvalue()).decode()
