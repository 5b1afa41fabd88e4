"""Real videos, quickly: a slow zoom over an image, or a prompt over moving colours.

Frames are made in YUV straight away, one Pillow resize a plane from a fractional box, so that the movement is smooth
below the pixel and x264 is the larger half of the work. One encoder thread, so that bytes do not depend on the
machine's number of cores.
"""

from __future__ import annotations

import colorsys
import hashlib
import io
import math
import random
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

__all__ = ["Recipe", "frame_size", "mux_sound", "poster", "render"]

_TINY_SIDE = 36
_TINY_STEP = 10  # nobody watches thumbnails: each image is shown for ten frames
_ZOOM = 1.14
_WIDEST = 3.0
_SAMPLE_RATE, _SAMPLES, _FADE_SAMPLES = 24_000, 1152, 2400
_CODECS = {
    "mp3": ("libmp3lame", "mp3"),
    "wav": ("pcm_s16le", "wav"),
    "flac": ("flac", "flac"),
    "ogg": ("libopus", "ogg"),
}

Planes = tuple[Image.Image, Image.Image, Image.Image]


@dataclass(frozen=True)
class Recipe:
    """Everything that a video's bytes depend on; `image` is a file that is named by its content."""

    prompt: str
    seed: int
    frames: int
    frames_per_second: int
    width: int
    height: int
    image: Path | None = None
    makes: str = "video"
    form: str = "mp4"
    """The file's extension."""

    @property
    def name(self) -> str:
        """A name that two recipes share only if they give the same bytes."""
        facts = [self.prompt, self.seed, self.frames, self.frames_per_second, self.width, self.height]
        facts += [self.image.name if self.image else None, self.makes, self.form]
        return hashlib.sha256(repr(facts).encode()).hexdigest()


def frame_size(shorter_side: int | None, ratio: float) -> tuple[int, int]:
    """Return even width and height for a ratio of width to height; `None` is the tiny size of tests."""
    side = shorter_side or _TINY_SIDE
    longer = 2 * round(side * min(max(ratio, 1 / ratio), _WIDEST) / 2)
    return (longer, side) if ratio >= 1 else (side, longer)


def render(recipe: Recipe, path: Path) -> None:
    """Write the recipe's file to `path`: an H.264 video, an image or a sound; a second for a video of 720p. Blocks."""
    if recipe.makes == "audio":
        return _sound(recipe, path)
    frame_at = _zoom(recipe) if recipe.image else _colours(recipe)
    if recipe.makes == "image":
        return _merged(frame_at(0.5)).save(path, quality=90)
    with av.open(str(path), "w", format="mp4", container_options={"movflags": "+faststart"}) as container:
        container.metadata["comment"] = f"RunComfy sandbox, seed {recipe.seed}"
        options = {"preset": "ultrafast", "crf": "21", "threads": "1"}
        stream = container.add_stream("libx264", rate=recipe.frames_per_second, options=options)
        if not isinstance(stream, VideoStream):
            raise TypeError("libx264 gave no video stream")
        stream.width, stream.height, stream.pix_fmt = recipe.width, recipe.height, "yuv420p"
        stream.codec_context.colorspace = 6  # BT.601, which is Pillow's YCbCr
        stream.codec_context.color_range = 1
        for frame in _frames(recipe, frame_at):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _merged(planes: Planes) -> Image.Image:
    """Return planes of the limited range as an image."""
    luma, blue, red = planes
    wide = [round((value - 128) * 255 / 224 + 128) for value in range(256)]
    full = luma.point([round((value - 16) * 255 / 219) for value in range(256)])
    chroma = [plane.resize(luma.size).point(wide) for plane in (blue, red)]
    return Image.merge("YCbCr", (full, *chroma)).convert("RGB")


def _sound(recipe: Recipe, path: Path) -> None:
    """Write a chord that the seed chooses, with a soft beginning and end."""
    dice = _dice(recipe)
    tones = [round(220 * 2 ** (step / 12)) for step in (dice.randrange(12), dice.randrange(12, 20), dice.randrange(26))]
    # whole numbers of hertz, so that one second is the same as the next
    second = [
        sum(9000 * math.sin(2 * math.pi * tone * index / _SAMPLE_RATE) for tone in tones) / len(tones)
        for index in range(_SAMPLE_RATE)
    ]
    total, codec, form = round(recipe.frames / recipe.frames_per_second * _SAMPLE_RATE), *_CODECS[recipe.form]
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=_SAMPLE_RATE, layout="mono")
        if not isinstance(stream, AudioStream):
            raise TypeError(f"{codec} gave no audio stream")
        samples = array("h")
        for index in range(total):
            fade = min(1.0, index / _FADE_SAMPLES, (total - index) / _FADE_SAMPLES)
            samples.append(round(fade * second[index % _SAMPLE_RATE]))
        mux_sound(container, stream, samples, _SAMPLE_RATE)


def mux_sound(container: OutputContainer, stream: AudioStream, samples: array[int], rate: int) -> None:
    """Encode samples of 16 bits, one channel, into all channels of a stream, to its end.

    Args:
        container: Where the stream is.
        stream: What it is encoded as; nothing may be in it yet.
        samples: The sound.
        rate: Samples per second of it, and of the stream.
    """
    resampler = av.AudioResampler(stream.format, stream.layout, rate, stream.codec_context.frame_size or _SAMPLES)
    for start in range(0, len(samples), _SAMPLES):
        part = samples[start : start + _SAMPLES]
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(part))
        frame.planes[0].update(part.tobytes())
        frame.sample_rate, frame.pts = rate, start
        for each in resampler.resample(frame):
            container.mux(stream.encode(each))
    for each in resampler.resample(None):
        container.mux(stream.encode(each))
    container.mux(stream.encode(None))


def poster(video: Path) -> bytes:
    """Return a video's first frame as PNG."""
    with av.open(str(video)) as container:
        frame = next(container.decode(video=0))
    file = io.BytesIO()
    frame.to_image().save(file, "PNG")  # type: ignore[no-untyped-call]
    return file.getvalue()


def _frames(recipe: Recipe, frame_at: Callable[[float], Planes]) -> Iterator[av.VideoFrame]:
    is_tiny = min(recipe.width, recipe.height) <= _TINY_SIDE
    planes: Planes | None = None
    for index in range(recipe.frames):
        if planes is None or not is_tiny or index % _TINY_STEP == 0:
            planes = frame_at(index / (recipe.frames - 1))
        frame = av.VideoFrame(recipe.width, recipe.height, "yuv420p")
        for plane, image in zip(frame.planes, planes, strict=True):
            plane.update(image.crop((0, 0, plane.line_size, plane.height)).tobytes())
        frame.pts = index
        yield frame


def _to_planes(image: Image.Image) -> Planes:
    """Split into Y, U, V in the limited range that players expect."""
    luma, blue, red = image.convert("YCbCr").split()
    narrow = [round(128 + (value - 128) * 224 / 255) for value in range(256)]
    return luma.point([round(16 + value * 219 / 255) for value in range(256)]), blue.point(narrow), red.point(narrow)


def _dice(recipe: Recipe) -> random.Random:
    return random.Random(f"{recipe.seed}:{recipe.prompt}")  # noqa: S311 - repeatable on purpose


def _zoom(recipe: Recipe) -> Callable[[float], Planes]:
    """Zoom slowly into the image, towards a side that the seed chooses."""
    width, height = recipe.width, recipe.height
    large = (round(width * _ZOOM), round(height * _ZOOM))
    with Image.open(str(recipe.image)) as file:
        image = ImageOps.fit(ImageOps.exif_transpose(file).convert("RGB"), large, Image.Resampling.LANCZOS)
    planes = _to_planes(image)
    angle = _dice(recipe).uniform(0, 2 * math.pi)

    def frame_at(moment: float) -> Planes:
        zoom = 1 + (_ZOOM - 1) * (1 - math.cos(math.pi * moment)) / 2
        wide, high = large[0] / zoom, large[1] / zoom
        left = (large[0] - wide) / 2 * (1 + 0.7 * math.cos(angle))
        top = (large[1] - high) / 2 * (1 + 0.7 * math.sin(angle))
        box = (left, top, left + wide, top + high)
        sizes = ((width, height), (width // 2, height // 2), (width // 2, height // 2))
        luma, blue, red = (
            plane.resize(size, Image.Resampling.BILINEAR, box) for plane, size in zip(planes, sizes, strict=True)
        )
        return luma, blue, red

    return frame_at


def _colours(recipe: Recipe) -> Callable[[float], Planes]:
    """Let soft colours of the seed flow behind the prompt."""
    dice = _dice(recipe)
    hue = dice.uniform(0.5, 0.95)  # cool hues: their mixtures do not turn to mud
    sizes = ((recipe.width, recipe.height), *[(recipe.width // 2, recipe.height // 2)] * 2)
    wide, high = (3.4, 2.2) if recipe.width >= recipe.height else (2.2, 3.4)

    def cloud() -> Planes:
        image = Image.new("RGB", (7, 7))
        for at in range(7 * 7):
            shade = (hue + dice.uniform(-0.1, 0.1)) % 1, dice.uniform(0.45, 0.85), dice.uniform(0.3, 0.85)
            red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(*shade))
            image.putpixel((at % 7, at // 7), (red, green, blue))
        return _to_planes(image)

    first, second = cloud(), cloud()
    text = _lettering(recipe)
    shadow = text.filter(ImageFilter.GaussianBlur(recipe.height / 60)).point([min(150, value) for value in range(256)])
    texts, shadows = ([mask.resize(size) for size in sizes] for mask in (text, shadow))

    def frame_at(moment: float) -> Planes:
        turn = math.pi * moment
        left, top = 1.5 + math.sin(turn), 1.5 + math.cos(turn)
        box = (left, top, left + wide, top + high)
        planes = []
        for at, dark, bright in ((0, 16, 235), (1, 128, 128), (2, 128, 128)):
            plane = Image.blend(first[at], second[at], (1 - math.cos(turn)) / 2)
            plane = plane.resize(sizes[at], Image.Resampling.BICUBIC, box)
            plane.paste(dark, mask=shadows[at])
            plane.paste(bright, mask=texts[at])
            planes.append(plane)
        return planes[0], planes[1], planes[2]

    return frame_at


def _lettering(recipe: Recipe) -> Image.Image:
    """Return a mask of the prompt, as large as fits in its frame."""
    mask = Image.new("L", (recipe.width, recipe.height))
    draw = ImageDraw.Draw(mask)
    short = min(recipe.width, recipe.height)
    for size in (short / 10, short / 13, short / 17, short / 22, short / 30):
        font = ImageFont.load_default(size)
        lines = [""]
        for word in recipe.prompt.split():
            longer = f"{lines[-1]} {word}".strip()
            if draw.textlength(longer, font) <= recipe.width * 0.8:
                lines[-1] = longer
            else:
                lines.append(word)
        if len(lines) * size * 1.3 <= recipe.height * 0.7:
            break
    centre = (recipe.width / 2, recipe.height / 2)
    draw.multiline_text(centre, "\n".join(lines), 255, font, anchor="mm", align="center", spacing=size * 0.3)
    note = f"sandbox · seed {recipe.seed}"
    draw.text(
        (recipe.width / 2, recipe.height - short / 16), note, 170, ImageFont.load_default(short / 32), anchor="mm"
    )
    return mask
