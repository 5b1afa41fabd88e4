"""Distinguish a real, whole image from a file that is only named like one.

A generation is paid for before the service has read its image, so everything that can be checked is checked here: the
whole image is decoded once. What surely cannot become a video is refused; what may go wrong is a warning.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from pydantic import BaseModel, ConfigDict

from runcomfy.errors import InvalidInput
from runcomfy.media.converting import CONVERTED, NoDecoder, convert, open_converted
from runcomfy.media.image_parts import image_format, image_parts
from runcomfy.media.kinds import SNIFF_BYTES
from runcomfy.media.not_images import RAW_PHOTO, SAVED_AS_TEXT, refusal_of, was_text
from runcomfy.media.tiff import Damaged, RareKind, RawPhoto, TooManyParts, silence_libtiff

__all__ = [
    "MAX_ASPECT_RATIO",
    "MAX_IMAGE_BYTES",
    "MAX_IMAGE_PIXELS",
    "MIN_IMAGE_SIDE",
    "ImageFacts",
    "UsableImage",
    "inspect_image",
    "refuse_image",
    "usable_image",
]

MAX_IMAGE_BYTES = 50_000_000
MAX_IMAGE_PIXELS = 80_000_000
"""About ten times a 4K image. Decoding takes 4 bytes of memory a pixel, and up to 16 for WebP, AVIF and HEIC (measured:
1.3 GB and 12 s for a WebP of 80 million)."""

_LARGE_PIXELS = 16_000_000
"""Larger images are decoded one at a time, so that four that are staged at once do not need four times the memory."""

MIN_IMAGE_SIDE = 16
"""Pixels. Video models of this kind process an image in blocks of 16 by 16: the variational autoencoder of Wan 2.1
divides each side by 8, its transformer by 2 again (github.com/Wan-Video/Wan2.1, `vae_stride` and `patch_size`)."""
MAX_ASPECT_RATIO = 20
"""Longer to shorter side: a strip that is 480 pixels high would be 10,000 wide."""

# By the plugin's class, so that each is imported: Pillow does not know a format by name before that.
_FORMATS = {
    BmpImagePlugin.BmpImageFile.format: ("image/bmp", "bmp"),
    GifImagePlugin.GifImageFile.format: ("image/gif", "gif"),
    JpegImagePlugin.JpegImageFile.format: ("image/jpeg", "jpg"),
    PngImagePlugin.PngImageFile.format: ("image/png", "png"),
    TiffImagePlugin.TiffImageFile.format: ("image/tiff", "tiff"),
    WebPImagePlugin.WebPImageFile.format: ("image/webp", "webp"),
}
_SHOWN = {"WEBP": "WebP", "HEIF": "HEIC"}
_LARGE = threading.Lock()


class ImageFacts(BaseModel):
    """What an image is by its content; sizes are in pixels, the extension has no dot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    content_type: str
    extension: str
    width: int
    height: int
    orientation: int = 1
    """How to turn it before it is shown, by its EXIF data: 1 to 8, and 1 is not at all."""
    converted_from: str | None = None
    """The media type of the file that was given, if that is not what RunComfy gets."""


class UsableImage(NamedTuple):
    """An image that RunComfy can read, and what it is: the bytes that were given, or a conversion of them."""

    data: bytes
    facts: ImageFacts


def inspect_image(data: bytes) -> ImageFacts:
    """Decode the image, the first frame if there are several, and return what RunComfy gets of it.

    Raises:
        InvalidInput: Empty, too large, not an image, damaged or cut.
    """
    return usable_image(data).facts


def usable_image(data: bytes) -> UsableImage:
    """Decode the image, the first frame if there are several; convert it if it is AVIF or HEIC.

    Which formats RunComfy reads is not documented, and those two are what programs often lack. Texts, colour profiles
    and other data beside the pixels are not looked at, so that they neither spoil a good image nor cost anything.

    Raises:
        InvalidInput: Empty, too large, not an image, damaged or cut; or nothing is installed that reads HEIC.
    """
    if not data:
        refuse_image("The image is empty. Check the program that wrote it.")
    if len(data) > MAX_IMAGE_BYTES:
        refuse_image(f"The image has {len(data):,} bytes; {MAX_IMAGE_BYTES:,} are allowed. Make it smaller.")
    name = image_format(data)
    if name is None:
        _refuse_file(*refusal_of(data))
    shown = _SHOWN.get(name, name)
    if name == "PNG" and data[12:16] == b"CgBI":
        refuse_image(
            "The image is a PNG as Xcode packs it into apps (CgBI), which only Apple's programs read. "
            "Use the original, or restore it: xcrun pngcrush -revert-iphone-optimizations IN OUT"
        )
    try:
        parts = image_parts(data, name)
        with _opened(parts.pixels, name) as image:
            _check_size(*image.size)
            with _one_at_a_time(image):
                image.load()
                converted = convert(image) if name in CONVERTED else None
    except NoDecoder as missing:
        refuse_image(f"The image is in the format {shown}, which nothing reads here. {missing}")
    except TooManyParts as many:
        refuse_image(f"The {shown} has more {many} than any ordinary image. Open and save it with an image editor.")
    except RareKind as rare:
        refuse_image(f"The {shown} is {rare}, which hardly any program reads. Save it as an ordinary JPEG or PNG.")
    except RawPhoto:
        _refuse_file(*RAW_PHOTO)
    except Damaged as damage:
        _refuse_damaged(data, f"The {shown} is damaged or cut: {damage}. Export or copy it again.")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        _check_size(MAX_IMAGE_PIXELS, 2)
    except InvalidInput:
        raise
    except MemoryError:
        refuse_image(f"The {shown} needs more memory to be decoded than there is here. Scale it down.")
    except Exception:  # decoders raise anything on a damaged file: SyntaxError, struct.error, IndexError …
        _refuse_damaged(
            data, f"The {shown} is damaged or cut: it cannot be decoded to its end. Export or copy it again."
        )
    if converted is None:
        return UsableImage(data, _facts(name, image.size, parts.orientation))
    made, kind = converted
    if len(made) > MAX_IMAGE_BYTES:
        refuse_image(
            f"The {shown} has {len(made):,} bytes as a {kind}; {MAX_IMAGE_BYTES:,} are allowed. Scale it down."
        )
    with Image.open(io.BytesIO(made), formats=[kind]) as image:
        return UsableImage(made, _facts(kind, image.size, converted_from=CONVERTED[name]))


def _facts(name: str, size: tuple[int, int], orientation: int = 1, converted_from: str | None = None) -> ImageFacts:
    content_type, extension = _FORMATS[name]
    return ImageFacts(
        content_type=content_type, extension=extension, width=size[0], height=size[1], orientation=orientation,
        converted_from=converted_from,
    )  # fmt: skip


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[Any]:
    if name == "TIFF":
        silence_libtiff()
    with open_converted(data, name) if name in CONVERTED else Image.open(io.BytesIO(data), formats=[name]) as image:
        yield image


@contextmanager
def _one_at_a_time(image: Image.Image) -> Iterator[None]:
    if image.width * image.height <= _LARGE_PIXELS:
        yield
    else:
        with _LARGE:
            yield


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_IMAGE_PIXELS:
        refuse_image(f"The image has more than {MAX_IMAGE_PIXELS:,} pixels. Scale it down; more than 4K is of no use.")
    if min(width, height) < MIN_IMAGE_SIDE:
        refuse_image(
            f"The image has {width} x {height} pixels; a video needs at least {MIN_IMAGE_SIDE} on each side. "
            "Use a larger one."
        )
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        refuse_image(
            f"The image has {width} x {height} pixels; one side may be {MAX_ASPECT_RATIO} times as long as the other "
            "at most. Crop it."
        )


def _refuse_damaged(data: bytes, sentence: str) -> NoReturn:
    if was_text(data[:SNIFF_BYTES]):
        _refuse_file(*SAVED_AS_TEXT)
    refuse_image(sentence)


def _refuse_file(what: str, advice: str) -> NoReturn:
    refuse_image(f"The file is not an image that can be used: it is {what}. {advice}")


def refuse_image(sentence: str) -> NoReturn:
    """Raise `InvalidInput` for the field `image`."""
    raise InvalidInput(sentence, violations=[("image", sentence)]) from None
