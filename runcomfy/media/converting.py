"""Turn an image of a format that not every program reads into one that all do."""

from __future__ import annotations

import io
from typing import Any, cast

from PIL import AvifImagePlugin, Image, ImageOps

from runcomfy.media.tiff import orientation_in

__all__ = ["CONVERTED", "NoDecoder", "convert", "open_converted"]

CONVERTED = {"AVIF": "image/avif", "HEIF": "image/heic"}
"""Pillow's names of the formats that are converted, and their media types."""

_QUALITY = 95
_MAX_PROFILE_BYTES = 1_000_000
_ORIENTATION_TAG = 0x0112
_ADVICE = {
    "AVIF": "Install a Pillow that reads AVIF, as its wheels do since 11.3, or save the image as JPEG or PNG.",
    "HEIF": "Install the extra that reads it (pip install 'prefect-runcomfy[heic]'), or save the photo as JPEG: on a "
    "Mac, sips -s format jpeg PHOTO --out photo.jpg; elsewhere, magick PHOTO photo.jpg",
}


class NoDecoder(Exception):
    """Nothing is installed that reads the format; the text says what to do."""


def open_converted(data: bytes, name: str) -> Any:
    """Open an AVIF or HEIC image, without decoding it.

    `pillow-heif` is an extra of ours: libheif and libde265 read HEIC well, but its wheels also carry the encoder x265,
    which is under the GPL, and weigh 27 MB. Its smaller sister without the encoder, pi-heif, is no longer kept up.

    Raises:
        NoDecoder: No library that reads it is installed.
    """
    if name == "AVIF":
        if not AvifImagePlugin.SUPPORTED:
            raise NoDecoder(_ADVICE[name])
        return Image.open(io.BytesIO(data), formats=[name])
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise NoDecoder(_ADVICE[name]) from None
    return cast(Any, HeifImageFile)(io.BytesIO(data))


def convert(image: Image.Image) -> tuple[bytes, str]:
    """Return a loaded image as a file, turned upright, and Pillow's name of the file's format.

    It is a JPEG of quality 95 without chroma subsampling, or a PNG if parts of it are transparent. Its colour profile
    stays, and nothing else: neither place nor time, nor the name of the camera.
    """
    turned = Image.Exif()
    turned[_ORIENTATION_TAG] = orientation_in(image.info.get("exif") or b"")
    image.info["exif"] = turned.tobytes()
    image = ImageOps.exif_transpose(image)
    profile = image.info.get("icc_profile") or b""
    saved = {"icc_profile": profile if len(profile) <= _MAX_PROFILE_BYTES else b"", "exif": b""}
    file = io.BytesIO()
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] != 255:
        image.convert("RGBA").save(file, "PNG", **saved)
        return file.getvalue(), "PNG"
    image.convert("RGB").save(file, "JPEG", quality=_QUALITY, subsampling=0, **saved)
    return file.getvalue(), "JPEG"
