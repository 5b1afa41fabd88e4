"""Find out from a whole file on disk what is in it, and what is wrong or odd about it.

Nothing is rejected here: a paid file is kept whatever is in it. Each defect is one sentence; `missing` is the one that
points to a transfer that was cut off.
"""

from __future__ import annotations

import io
import re
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from PIL import Image

from runcomfy.media.decoding import Decode, Decoded
from runcomfy.media.image_parts import image_parts
from runcomfy.media.kinds import MediaKind
from runcomfy.media.mp4 import MAX_INDEX_BYTES, indexed_samples, walk
from runcomfy.media.probe import Probed, probe
from runcomfy.media.tiff import orientation_in
from runcomfy.media.verdict import damage_in, quality_of
from runcomfy.values import MediaFacts, Quality

__all__ = ["Judged", "judge"]

_MAX_PIXELS = 80_000_000
_MAX_IMAGE_BYTES = 200_000_000
"""Decoders of WebP and AVIF hold the whole file in memory."""
_MAX_SAMPLES = 5_000_000
"""FFmpeg allocates about 32 bytes for each sample that an index announces, whether it exists or not."""
_TAIL_BYTES = 64 * 1024
_OPEN_RIFF_BYTES = 0x7FFF0000
"""Who streams a WAV does not know its size yet, and writes as much as 32 bits, or 31, hold, or a little less."""

_FFMPEG = {
    "mp4": "mp4", "mov": "mp4", "m4a": "mp4", "heic": "mp4", "webm": "matroska", "matroska": "matroska", "avi": "avi",
    "mpegts": "mpegts", "ogg": "ogg", "mp3": "mp3", "wav": "wav", "flac": "flac", "aac": "aac", "aiff": "aiff",
    "flv": "flv", "asf": "asf", "mpeg": "mpeg", "mpegvideo": "mpegvideo", "amr": "amr", "caf": "caf",
}  # fmt: skip
_PILLOW = {name: [name.upper()] for name in ("png", "webp", "gif", "bmp", "tiff", "avif")} | {"jpeg": ["JPEG"]}
_QUARTERS = {3: 180, 4: 180, 5: 90, 6: 90, 7: 270, 8: 270}
"""EXIF's orientations, as degrees clockwise; mirroring is ignored."""


class Judged(NamedTuple):
    """What is in a file, and what is wrong with it, in sentences for a person."""

    facts: MediaFacts
    image: Image.Image | None = None
    """The first frame, or the waveform of a sound, if it could be decoded; lazy, read from the file when it is used."""
    missing: str | None = None
    """Why it seems to be cut off, by what it says of its own size."""
    damage: str | None = None
    """What does not decode, though nothing seems to be missing."""
    warnings: tuple[str, ...] = ()
    """What is odd but harmless."""
    takes_another_box: bool = False
    """Whether it is an MP4 to which a box can be added."""
    length_known: bool = True
    """Whether the file itself says where it ends, so that a cut would be detected."""
    streams: frozenset[str] = frozenset()
    """`video` and `audio`, if FFmpeg finds such streams in it."""
    decoded: Decoded | None = None
    """What decoding all of it found; `None` if that was not tried."""

    @property
    def sheet(self) -> bytes | None:
        """The contact sheet, if one was made: a JPEG."""
        return self.decoded.sheet if self.decoded is not None else None

    @property
    def quality(self) -> Quality:
        """The verdict, by all of this."""
        whole = self.missing and f"It is damaged or was cut off where it was made: {self.missing}."
        damage = self.damage and f"It is damaged: {self.damage}."
        return quality_of(self.decoded, whole or damage)


def judge(file: BinaryIO, size_bytes: int, kind: MediaKind, decode: Decode | None = None) -> Judged:
    """Examine a whole file: its structure, its first frame, and, with `decode`, every other one.

    Args:
        file: The file.
        size_bytes: Its size.
        kind: What it is by its first bytes.
        decode: Decodes all of it, in another process; without, only the first frame is decoded, in this one.
    """
    judged = _judge(file, size_bytes, kind, decode)
    facts = judged.decoded.facts if judged.decoded else None
    return judged._replace(damage=judged.damage or damage_in(facts))


def _judge(file: BinaryIO, size_bytes: int, kind: MediaKind, decode: Decode | None) -> Judged:
    if kind.container in ("mp4", "mov", "m4a"):
        return _judge_mp4(file, size_bytes, kind, decode)
    if kind.container in _PILLOW:
        return _judge_image(file, size_bytes, kind, decode)
    if kind.container == "svg":
        return _judge_svg(file, size_bytes, kind)
    if kind.container not in _FFMPEG:
        facts = MediaFacts(container=kind.container)
        odd = f"It is a {kind.container} file" if kind.container != "unknown" else "Its bytes are of an unknown kind"
        return Judged(facts, warnings=(f"{odd}: nothing of it was checked.",), length_known=False)
    decoded = None if kind.container == "heic" else _decoded_by_ffmpeg(file, kind, decode)
    probed = _probed(file, kind, decoded)
    missing, extra, length_known = _by_its_own_size(file, size_bytes, kind)
    judged = _with(Judged(_facts(kind, probed), missing=missing, length_known=length_known), probed)
    return judged._replace(decoded=decoded, warnings=judged.warnings + extra)


def _decoded_by_ffmpeg(file: BinaryIO, kind: MediaKind, decode: Decode | None) -> Decoded | None:
    return decode(file, {"by": "ffmpeg", "format": _FFMPEG[kind.container]}) if decode else None


def _probed(file: BinaryIO, kind: MediaKind, decoded: Decoded | None) -> Probed:
    """Ask FFmpeg in this process too, unless the file has crashed or hung the other one."""
    return Probed() if decoded is not None and decoded.hostile else probe(file, _FFMPEG[kind.container])


def _judge_mp4(file: BinaryIO, size_bytes: int, kind: MediaKind, decode: Decode | None) -> Judged:
    boxes = walk(file, size_bytes)
    warnings: tuple[str, ...] = ()
    if boxes.extra_bytes:
        warnings += (f"{_bytes(boxes.extra_bytes)} the end of the video.",)
    if boxes.foreign:
        warnings += (f"It has boxes that are not of its format: {', '.join(boxes.foreign[:5])}.",)
    judged = Judged(MediaFacts(container=kind.container), None, boxes.cut, None, warnings)
    if max((size for _, size in boxes.indexes), default=0) > MAX_INDEX_BYTES:
        return judged._replace(
            warnings=(*warnings, "Its index is too large to be read: nothing else of it was checked.")
        )
    if indexed_samples(file, boxes) > _MAX_SAMPLES:
        return judged._replace(
            warnings=(*warnings, "Its index announces more samples than are possible: nothing else of it was checked.")
        )
    decoded = _decoded_by_ffmpeg(file, kind, decode)
    judged, probed = judged._replace(decoded=decoded), _probed(file, kind, decoded)
    if b"moof" not in boxes.kinds and probed.indexed_bytes > size_bytes and boxes.cut is None:
        judged = judged._replace(missing="its index points behind its end")
    judged = _with(judged._replace(facts=_facts(kind, probed)), probed)
    whole = judged.missing is None and judged.damage is None
    return judged._replace(takes_another_box=kind.extension == "mp4" and whole and boxes.takes_another)


def _with(judged: Judged, probed: Probed) -> Judged:
    odd = judged.warnings
    if probed.oddity:
        odd += (probed.oddity,)
    return judged._replace(image=probed.image, streams=probed.streams, damage=probed.damage, warnings=odd)


def _facts(kind: MediaKind, probed: Probed) -> MediaFacts:
    known = {name: value for name, value in probed._asdict().items() if name in MediaFacts.model_fields}
    return MediaFacts(container=kind.container, **known)


def _judge_image(file: BinaryIO, size_bytes: int, kind: MediaKind, decode: Decode | None) -> Judged:
    if size_bytes > _MAX_IMAGE_BYTES:
        facts = MediaFacts(container=kind.container)
        return Judged(facts, warnings=(f"The image has {size_bytes:,} bytes: it was not decoded.",))
    decoded = decode(file, {"by": "pillow", "pillow": _PILLOW[kind.container]}) if decode else None
    if decoded is not None and decoded.hostile:
        return Judged(MediaFacts(container=kind.container), decoded=decoded)
    return _first_picture(file, size_bytes, kind)._replace(decoded=decoded)


def _first_picture(file: BinaryIO, size_bytes: int, kind: MediaKind) -> Judged:
    judged = _as_a_whole(file, kind)
    if judged.missing and _has_its_end(file, size_bytes, kind):
        return judged._replace(missing=None, damage=judged.missing)
    return judged


def _has_its_end(file: BinaryIO, size_bytes: int, kind: MediaKind) -> bool:
    """Whether an image has the end that its format has: if it does not decode, that is no cut."""
    file.seek(0)
    head = file.read(16)
    file.seek(max(0, size_bytes - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES).rstrip(b"\0\r\n")
    match kind.container:
        case "png":
            return b"IEND\xaeB`\x82" in tail
        case "jpeg":
            return tail.endswith(b"\xff\xd9")
        case "gif":
            return tail.endswith(b"\0;")
        case "webp":
            return 8 + int.from_bytes(head[4:8], "little") <= size_bytes
        case "bmp":
            return 0 < int.from_bytes(head[2:6], "little") <= size_bytes
        case "avif":
            boxes = walk(file, size_bytes)
            return boxes.cut is None and not boxes.open_ended
    return False


def _as_a_whole(file: BinaryIO, kind: MediaKind) -> Judged:
    judged = _decoded(file, kind)
    if judged.missing and kind.container == "png":  # perhaps for its texts, such as a workflow, which Pillow bounds
        file.seek(0)
        with suppress(ValueError):
            return _decoded(io.BytesIO(image_parts(file.read(), "PNG").pixels), kind)
    return judged


def _decoded(file: BinaryIO, kind: MediaKind) -> Judged:
    facts = MediaFacts(container=kind.container)
    try:
        file.seek(0)
        image = Image.open(file, formats=_PILLOW[kind.container])
        facts = facts.model_copy(update={"width": image.width, "height": image.height})
        if image.width * image.height > _MAX_PIXELS:
            return Judged(facts, warnings=(f"The image has {image.width}x{image.height} pixels: it was not decoded.",))
        image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return Judged(facts, warnings=("The image has more pixels than are decoded here.",))
    except Exception as trouble:  # decoders raise anything on a damaged file
        return Judged(facts, missing=f"it cannot be decoded to its end ({type(trouble).__name__})")
    return Judged(facts.model_copy(update={"rotation_degrees": _turned(image)}), image)


def _judge_svg(file: BinaryIO, size_bytes: int, kind: MediaKind) -> Judged:
    file.seek(max(0, size_bytes - _TAIL_BYTES))
    ended = re.search(rb"</[\w-]*:?svg\s*>|/>\s*$", file.read()) is not None
    return Judged(MediaFacts(container=kind.container), missing=None if ended else "its last tag is missing")


def _turned(image: Image.Image) -> int | None:
    try:
        exif = image.info.get("exif")
        turned = orientation_in(exif) if isinstance(exif, bytes) else image.getexif().get(0x0112, 1)
        return _QUARTERS.get(turned, 0)
    except Exception:  # broken EXIF does not make an image worse
        return None


def _by_its_own_size(file: BinaryIO, size_bytes: int, kind: MediaKind) -> tuple[str | None, tuple[str, ...], bool]:
    """Return why a file seems to be cut off, what is odd about its end, and whether it says where its end is."""
    file.seek(0)
    head = file.read(4096)
    expected: int | None = None
    if kind.container in ("webm", "matroska"):
        try:
            expected = _matroska_size(head)
        except ValueError:
            return "it has no segment", (), False
    elif head[:4] == b"RIFF":
        said = int.from_bytes(head[4:8], "little")
        is_open = said == 0 or said >= _OPEN_RIFF_BYTES > size_bytes
        expected = None if is_open else 8 + said
    elif kind.extension == "ts" and size_bytes % 188:
        return "its last packet is not whole", (), False
    elif kind.container == "ogg":
        file.seek(max(0, size_bytes - _TAIL_BYTES))
        tail = file.read()
        last = tail.rfind(b"OggS")
        ended = last >= 0 and len(tail) > last + 5 and bool(tail[last + 5] & 4)
        return (None if ended else "its last page does not say that it is the last"), (), True
    if expected is None:
        return None, (), False
    if expected > size_bytes + (expected & 1 and head[:4] == b"RIFF"):
        return f"it should have {expected:,} bytes and has {size_bytes:,}", (), True
    extra = size_bytes - expected
    file.seek(expected)
    if kind.container == "avi" and file.read(4) == b"RIFF":  # a large AVI is a sequence of them
        return None, (), False
    return None, (f"{_bytes(extra)} its end.",) if extra > 1 or (extra and head[:4] != b"RIFF") else (), True


def _bytes(count: int) -> str:
    return "1 byte follows" if count == 1 else f"{count:,} bytes follow"


def _matroska_size(head: bytes) -> int | None:
    """Return the size that the file announces for itself: two EBML elements, a header and one segment."""
    at = 0
    for identifier in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        first = head[at + 4] if len(head) > at + 4 else 0
        if head[at : at + 4] != identifier or not first:
            raise ValueError("no segment")
        length = 9 - first.bit_length()
        value = int.from_bytes(head[at + 4 : at + 4 + length], "big") & ((1 << 7 * length) - 1)
        if value == (1 << 7 * length) - 1:
            return None
        at += 4 + length + value
    return at
