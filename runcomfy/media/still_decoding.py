"""Decode each picture of an image file, animations included; part of the process of `isolation`."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from typing import Any, BinaryIO

from PIL import Image

from runcomfy.media.image_parts import image_parts
from runcomfy.media.isolation import Limits

__all__ = ["decoded"]

_MAX_PIXELS = 80_000_000
_MAX_TEXT_BYTES = 200_000_000
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"fcTL", b"fdAT"})
_UNIFORM_LEVELS = 2
"""Of 255: how far the pixels of a picture of one colour may differ."""


def decoded(file: BinaryIO, order: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """Return what is in an image: its pictures, how many of them decode, whether there is anything to see."""
    found = _pictures(file, order, limits)
    if found.get("damage") and order["pillow"] == ["PNG"]:  # perhaps for its texts, such as a workflow
        file.seek(0)
        with suppress(ValueError):
            return _pictures(io.BytesIO(image_parts(file.read(_MAX_TEXT_BYTES), "PNG").pixels), order, limits)
    elif order["pillow"] == ["PNG"] and not found.get("stopped") and _has_wrong_checksum(file):
        return found | {"damage": "a checksum over its pixels is wrong", "pictures_damaged": 1}
    return found


def _has_wrong_checksum(file: BinaryIO) -> bool:
    """Whether a PNG's pixels are not those that were written: Pillow shows what it makes of them all the same."""
    file.seek(len(_PNG))
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name not in _PNG_PIXELS:
            file.seek(length + 4, io.SEEK_CUR)
            continue
        body, checksum = file.read(length), file.read(4)
        if (
            len(body) == length
            and len(checksum) == 4
            and zlib.crc32(body, zlib.crc32(name)) != int.from_bytes(checksum, "big")
        ):
            return True
    return False


def _pictures(file: BinaryIO, order: dict[str, Any], limits: Limits) -> dict[str, Any]:
    found: dict[str, Any] = {"pictures": 0, "pictures_damaged": 0, "damage": None, "uniform": None}
    file.seek(0)
    try:
        image = Image.open(file, formats=order["pillow"])
        pictures, pixels = getattr(image, "n_frames", 1), image.width * image.height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return {"stopped": "it has more pixels than are decoded"}
    except MemoryError:
        raise
    except Exception as trouble:  # decoders raise anything on a damaged file
        return found | {"damage": f"it does not decode ({type(trouble).__name__})", "pictures_damaged": 1}
    if pixels > _MAX_PIXELS:
        return {"stopped": f"it has {image.width}x{image.height} pixels, and images of up to 80 million are decoded"}
    limits.allow(pixels * pictures / 1e6, pixels)
    uniform = True
    for number in range(pictures):
        if limits.over:
            found["stopped"] = f"{number} of its {pictures} pictures were decoded in {limits.seconds:g} s"
            break
        try:
            image.seek(number)
            image.load()
            uniform = uniform and _is_uniform(image)
        except MemoryError:
            raise
        except EOFError:
            found["damage"] = f"it should have {pictures} pictures and has {number}"
            break
        except Exception as trouble:
            found["pictures_damaged"] += 1
            found["damage"] = f"picture {number + 1} of {pictures} does not decode ({type(trouble).__name__})"
            break  # those after it are drawn over it
        found["pictures"] += 1
    return found | {"uniform": uniform and found["pictures"] > 0, "width": image.width, "height": image.height}


def _is_uniform(image: Image.Image) -> bool:
    try:
        shown = image.convert("RGBA" if image.has_transparency_data else "RGB") if image.mode == "P" else image
        bands: Any = shown.getextrema()
    except (OSError, ValueError):
        return False  # a mode that Pillow cannot measure
    if not isinstance(bands[0], tuple):
        bands = (bands,)
    most = _UNIFORM_LEVELS if shown.mode not in ("I", "F", "I;16", "I;16B") else 0
    return all(high - low <= most for low, high in bands)
