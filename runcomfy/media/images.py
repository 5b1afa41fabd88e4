"""Distinguish a real, whole image from a file that is only named like one.

A generation is paid for before the service has read its image, so everything that can be checked is checked here: the
whole image is decoded once. What surely cannot become a video is refused; what may go wrong is a warning.
"""

from __future__ import annotations

import io
from typing import NoReturn

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from pydantic import BaseModel, ConfigDict

from runcomfy.errors import InvalidInput

__all__ = [
    "MAX_ASPECT_RATIO",
    "MAX_IMAGE_BYTES",
    "MAX_IMAGE_PIXELS",
    "MIN_IMAGE_SIDE",
    "ImageFacts",
    "inspect_image",
    "refuse_image",
]

MAX_IMAGE_BYTES = 50_000_000
MAX_IMAGE_PIXELS = 80_000_000
"""About ten times a 4K image; four bytes of memory per pixel while it is decoded."""

MIN_IMAGE_SIDE = 16
"""Pixels. Video models of this kind process an image in blocks of 16 by 16: the variational autoencoder of Wan 2.1
divides each side by 8, its transformer by 2 again (github.com/Wan-Video/Wan2.1, `vae_stride` and `patch_size`)."""
MAX_ASPECT_RATIO = 20
"""Longer to shorter side: a strip that is 480 pixels high would be 10,000 wide."""

_ORIENTATION_TAG = 0x0112

# By the plugin's class, so that each is imported: Pillow does not know a format by name before that.
_FORMATS = {
    BmpImagePlugin.BmpImageFile.format: ("image/bmp", "bmp"),
    GifImagePlugin.GifImageFile.format: ("image/gif", "gif"),
    JpegImagePlugin.JpegImageFile.format: ("image/jpeg", "jpg"),
    PngImagePlugin.PngImageFile.format: ("image/png", "png"),
    TiffImagePlugin.TiffImageFile.format: ("image/tiff", "tiff"),
    WebPImagePlugin.WebPImageFile.format: ("image/webp", "webp"),
}
_OPENED = [name for name in _FORMATS if name]
_FORMATS[MpoImagePlugin.MpoImageFile.format] = ("image/jpeg", "jpg")  # of some phones; opened as the JPEG that it is
_KINDS = "Use a JPEG, PNG or WebP file."


class ImageFacts(BaseModel):
    """What an image is by its content; sizes are in pixels, the extension has no dot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    content_type: str
    extension: str
    width: int
    height: int
    orientation: int = 1
    """How to turn it before it is shown, by its EXIF data: 1 to 8, and 1 is not at all."""


def inspect_image(data: bytes) -> ImageFacts:
    """Decode the image, the first frame if there are several, and return what it is.

    Raises:
        InvalidInput: Empty, too large, not an image, damaged or cut.
    """
    if not data:
        refuse_image("The image is empty. Check the program that wrote it.")
    if len(data) > MAX_IMAGE_BYTES:
        refuse_image(f"The image has {len(data):,} bytes; {MAX_IMAGE_BYTES:,} are allowed. Make it smaller.")
    try:
        with Image.open(io.BytesIO(data), formats=_OPENED) as header:
            kind, (width, height) = str(header.format), header.size
            if width * height <= MAX_IMAGE_PIXELS:
                header.verify()
        # `verify` leaves an image unusable, and does not check the pixels of every format.
        if width * height <= MAX_IMAGE_PIXELS:
            with Image.open(io.BytesIO(data), formats=_OPENED) as pixels:
                orientation = _orientation(pixels)
                pixels.load()
    except UnidentifiedImageError:
        refuse_image(f"The file is not an image of a supported format. {_KINDS}")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        width = height = MAX_IMAGE_PIXELS
    except Exception:  # decoders raise anything on a damaged file: SyntaxError, struct.error, IndexError …
        refuse_image("The image is damaged or cut: it cannot be decoded to its end. Export or copy it again.")
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
    content_type, extension = _FORMATS[kind]
    return ImageFacts(
        content_type=content_type, extension=extension, width=width, height=height, orientation=orientation
    )


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION_TAG, 1)
    except (
        Exception
    ):  # damaged EXIF data, which does not stop the pixels from being decoded; see above for what is raised
        return 1
    return found if found in range(2, 9) else 1


def refuse_image(sentence: str) -> NoReturn:
    """Raise `InvalidInput` for the field `image`."""
    raise InvalidInput(sentence, violations=[("image", sentence)]) from None
