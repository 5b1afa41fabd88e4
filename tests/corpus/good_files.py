"""Good files of every codec and container that PyAV and Pillow write here; none of them may be called damaged.

`python -m tests.corpus.good_files FOLDER` writes them.
"""

from __future__ import annotations

import io
import math
import sys
from array import array
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
from PIL import Image

from runcomfy.sandbox.render import mux_sound

__all__ = ["GoodFile", "good_files"]

_SECONDS = 1.5


class GoodFile(NamedTuple):
    """A file's name and its bytes."""

    name: str
    data: bytes


# extension, FFmpeg's container, video codec, pixel format, sound codec
_VIDEOS = (
    ("mp4", "mp4", "libx264", "yuv420p", "aac"), ("mp4", "mp4", "libx264", "yuv444p", None),
    ("mp4", "mp4", "libx264", "yuv420p10le", None), ("mp4", "mp4", "libx265", "yuv420p", "aac"),
    ("mp4", "mp4", "libx265", "yuv420p10le", None), ("mp4", "mp4", "libsvtav1", "yuv420p", None),
    ("mp4", "mp4", "libsvtav1", "yuv420p10le", None), ("mp4", "mp4", "mpeg4", "yuv420p", "libmp3lame"),
    ("mp4", "mp4", "libvpx-vp9", "yuv420p", "libopus"), ("mp4", "mp4", "mpeg2video", "yuv420p", "ac3"),
    ("mp4", "mp4", "mjpeg", "yuvj420p", None), ("mp4", "mp4", "libx264", "yuv420p", "flac"),
    ("mov", "mov", "prores_ks", "yuv422p10le", "pcm_s16le"), ("mov", "mov", "libx264", "yuv420p", "aac"),
    ("mov", "mov", "qtrle", "rgb24", None), ("mov", "mov", "png", "rgb24", None), ("mov", "mov", "libx265", "yuv420p", None),
    ("mov", "mov", "mjpeg", "yuvj422p", "alac"), ("mov", "mov", "dnxhd", "yuv422p", None),
    ("webm", "webm", "libvpx", "yuv420p", "libopus"), ("webm", "webm", "libvpx-vp9", "yuv420p", "libopus"),
    ("webm", "webm", "libvpx-vp9", "yuv444p", None), ("webm", "webm", "libvpx", "yuva420p", None),
    ("webm", "webm", "libsvtav1", "yuv420p", "vorbis"),
    ("mkv", "matroska", "libx264", "yuv420p", "aac"), ("mkv", "matroska", "ffv1", "yuv420p", "flac"),
    ("mkv", "matroska", "libx265", "yuv420p", "ac3"), ("mkv", "matroska", "huffyuv", "yuv422p", "pcm_s16le"),
    ("mkv", "matroska", "rawvideo", "yuv420p", None), ("mkv", "matroska", "utvideo", "rgb24", None),
    ("mkv", "matroska", "mpeg4", "yuv420p", "mp2"), ("mkv", "matroska", "theora", "yuv420p", None),
    ("avi", "avi", "mpeg4", "yuv420p", "libmp3lame"), ("avi", "avi", "libx264", "yuv420p", None),
    ("avi", "avi", "mjpeg", "yuvj420p", "pcm_s16le"), ("avi", "avi", "msmpeg4", "yuv420p", None),
    ("ts", "mpegts", "libx264", "yuv420p", "aac"), ("ts", "mpegts", "mpeg2video", "yuv420p", "mp2"),
    ("ts", "mpegts", "libx265", "yuv420p", "ac3"), ("mpg", "mpeg", "mpeg2video", "yuv420p", "mp2"),
    ("mpg", "mpeg", "mpeg1video", "yuv420p", "mp2"), ("flv", "flv", "flv", "yuv420p", "libmp3lame"),
    ("flv", "flv", "libx264", "yuv420p", "aac"), ("wmv", "asf", "wmv2", "yuv420p", "wmav2"),
    ("3gp", "3gp", "h263", "yuv420p", None), ("ogv", "ogg", "libtheora", "yuv420p", None),
    ("fragmented.mp4", "mp4", "libx264", "yuv420p", "aac"), ("turned.mp4", "mp4", "libx264", "yuv420p", None),
    ("bframes.mp4", "mp4", "libx264", "yuv420p", None), ("intra.mp4", "mp4", "libx264", "yuv420p", None),
    ("interlaced.mp4", "mp4", "libx264", "yuv420p", None), ("uneven.mp4", "mp4", "libx264", "yuv420p", None),
)  # fmt: skip
# extension, container, codec, rate, layout
_SOUNDS = (
    ("wav", "wav", "pcm_s16le", 8000, "mono"), ("wav", "wav", "pcm_s24le", 48000, "stereo"),
    ("wav", "wav", "pcm_f32le", 44100, "stereo"), ("wav", "wav", "pcm_u8", 8000, "mono"),
    ("wav", "wav", "adpcm_ms", 22050, "mono"), ("wav", "wav", "pcm_mulaw", 8000, "mono"),
    ("mp3", "mp3", "libmp3lame", 44100, "stereo"), ("mp3", "mp3", "libmp3lame", 8000, "mono"),
    ("flac", "flac", "flac", 44100, "stereo"), ("flac", "flac", "flac", 96000, "mono"),
    ("ogg", "ogg", "libopus", 48000, "mono"), ("ogg", "ogg", "vorbis", 44100, "stereo"),
    ("ogg", "ogg", "flac", 44100, "stereo"), ("m4a", "ipod", "aac", 44100, "stereo"),
    ("m4a", "ipod", "alac", 44100, "stereo"), ("aac", "adts", "aac", 44100, "mono"),
    ("aiff", "aiff", "pcm_s16be", 44100, "stereo"), ("caf", "caf", "pcm_s16le", 44100, "mono"),
    ("amr", "amr", "libopencore_amrnb", 8000, "mono"), ("mka", "matroska", "libopus", 48000, "stereo"),
    ("webm", "webm", "libopus", 48000, "mono"), ("wma", "asf", "wmav2", 44100, "stereo"),
    ("wav", "wav", "pcm_s16le", 48000, "5.1"), ("flac", "flac", "flac", 48000, "5.1"),
)  # fmt: skip


def good_files() -> Iterator[GoodFile]:
    """Make each file whose encoder is there; the same ones each time."""
    for number, (extension, _, codec, pixels, sound) in enumerate(_VIDEOS):
        name = f"v{number:02}-{codec}-{pixels}-{sound or 'mute'}.{extension}"
        if (data := _made(lambda made, of=_VIDEOS[number]: _video(made, *of))) is not None:
            yield GoodFile(name, data)
    for number, (extension, _, codec, rate, layout) in enumerate(_SOUNDS):
        if (data := _made(lambda made, of=_SOUNDS[number]: _sound_file(made, *of))) is not None:
            yield GoodFile(f"s{number:02}-{codec}-{rate}-{layout}.{extension}", data)
    yield from _images()


def _made(write: Any) -> bytes | None:
    made = io.BytesIO()
    try:
        write(made)
    except (av.FFmpegError, ValueError):  # this build has no such encoder, or the container takes it not
        return None
    return made.getvalue()


def _video(made: io.BytesIO, extension: str, container: str, codec: str, pixels: str, sound: str | None) -> None:
    size = {"h263": (352, 288), "dnxhd": (1280, 720)}.get(codec, (320, 240))
    options = {"movflags": "frag_keyframe+empty_moov"} if extension.startswith("fragmented") else {}
    with av.open(made, "w", format=container, options=options) as target:
        rate = 25
        stream: Any = target.add_stream(codec, rate=rate, options=_options(extension, codec))
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        if codec == "dnxhd":
            stream.bit_rate = 60_000_000
        heard = target.add_stream(sound, rate=48000, layout="stereo") if sound else None
        if extension.startswith("turned"):
            stream.set_display_rotation(90) if hasattr(stream, "set_display_rotation") else None
        for index in range(round(_SECONDS * rate)):
            frame = _picture(index, size).reformat(format=pixels)
            frame.pts = index * (1 + index % 3) if extension.startswith("uneven") else index
            if extension.startswith("uneven"):
                frame.pts = sum(1 + step % 3 for step in range(index))
            frame.time_base = Fraction(1, rate)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
        if heard is not None:
            _mux_sound(target, heard, 48000)


def _options(extension: str, codec: str) -> dict[str, str]:
    options = {"libx264": {"preset": "ultrafast"}, "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
               "libvpx": {"deadline": "realtime", "cpu-used": "8"}, "libsvtav1": {"preset": "12"},
               "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"}}.get(codec, {})  # fmt: skip
    more = {
        "bframes.mp4": {"preset": "medium", "bf": "3", "x264-params": "open-gop=1:keyint=12"},
        "intra.mp4": {"g": "1"},
        "interlaced.mp4": {"flags": "+ildct+ilme"},
    }
    return options | more.get(extension, {})


def _picture(index: int, size: tuple[int, int]) -> Any:
    width, height = size
    columns = bytes((x * 2 + 5 * index) % 256 for x in range(width))
    image = Image.frombytes("L", size, columns * height)
    shifted = image.rotate(90, expand=True).resize(size)
    return av.VideoFrame.from_image(Image.merge("RGB", (image, shifted, Image.blend(image, shifted, 0.5))))


def _sound_file(made: io.BytesIO, extension: str, container: str, codec: str, rate: int, layout: str) -> None:
    with av.open(made, "w", format=container) as target:
        _mux_sound(target, target.add_stream(codec, rate=rate, layout=layout), rate)


def _mux_sound(target: Any, stream: Any, rate: int) -> None:
    values = array("h", (round(9000 * math.sin(2 * math.pi * 330 * i / rate)) for i in range(round(_SECONDS * rate))))
    mux_sound(target, stream, values, rate)


def _images() -> Iterator[GoodFile]:
    moving = [_picture(index, (160, 120)).to_image() for index in range(12)]
    still = moving[3]
    for name, options in (("png", {}), ("jpeg", {"progressive": True}), ("webp", {}), ("gif", {}), ("bmp", {}),
                          ("tiff", {"compression": "tiff_lzw"}), ("avif", {})):  # fmt: skip
        made = io.BytesIO()
        still.save(made, name, **options)
        yield GoodFile(f"i-still.{name}", made.getvalue())
    for name in ("gif", "webp", "png", "tiff", "avif"):
        made = io.BytesIO()
        moving[0].save(
            made, name, save_all=True, append_images=moving[1:], **({"duration": 40} if name != "tiff" else {})
        )
        yield GoodFile(f"i-moving.{name}", made.getvalue())
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        made = io.BytesIO()
        (still.convert("I").convert("I;16") if mode == "I;16" else still.convert(mode)).save(made, "png")
        yield GoodFile(f"i-{mode.replace(';', '')}.png", made.getvalue())
    made = io.BytesIO()
    still.convert("CMYK").save(made, "jpeg")
    yield GoodFile("i-cmyk.jpeg", made.getvalue())
    made = io.BytesIO()
    large = [Image.merge("RGB", [frame.resize((800, 600)).getchannel(at) for at in range(3)]) for frame in moving]
    large[0].save(made, "gif", save_all=True, append_images=large[1:] * 10, duration=40)
    yield GoodFile("i-large-animation.gif", made.getvalue())


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for good in good_files():
        (folder / good.name).write_bytes(good.data)
        print(good.name, len(good.data))
