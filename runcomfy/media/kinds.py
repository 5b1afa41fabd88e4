"""Find out from its first bytes what a file is. The server's content type counts only where the bytes say nothing.

Error pages come with status 200, with `video/mp4` and under a name that ends in `.mp4`. So the bytes decide: a page, a
document or an empty file is refused; anything else may be what was paid for, and gets a name to be kept under.
"""

from __future__ import annotations

import mimetypes
import re
from typing import NamedTuple

__all__ = ["SNIFF_BYTES", "MediaKind", "by_name", "describe", "sniff"]

SNIFF_BYTES = 4096
"""How much of a file's start is enough."""


class MediaKind(NamedTuple):
    """A container: our name for it, the file extension without a dot, and the media type to store it under."""

    container: str
    extension: str
    content_type: str


_MP4 = MediaKind("mp4", "mp4", "video/mp4")
_MOV = MediaKind("mov", "mov", "video/quicktime")
_WEBM = MediaKind("webm", "webm", "video/webm")
_MATROSKA = MediaKind("matroska", "mkv", "video/x-matroska")
_SVG = MediaKind("svg", "svg", "image/svg+xml")
_OGG = MediaKind("ogg", "ogg", "application/ogg")
_TS = MediaKind("mpegts", "ts", "video/mp2t")
_MP3 = MediaKind("mp3", "mp3", "audio/mpeg")

_STARTS: tuple[tuple[int, bytes, MediaKind], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", MediaKind("png", "png", "image/png")),
    (0, b"\xff\xd8\xff", MediaKind("jpeg", "jpg", "image/jpeg")),
    (0, b"GIF87a", MediaKind("gif", "gif", "image/gif")),
    (0, b"GIF89a", MediaKind("gif", "gif", "image/gif")),
    (0, b"II*\0", MediaKind("tiff", "tiff", "image/tiff")),
    (0, b"MM\0*", MediaKind("tiff", "tiff", "image/tiff")),
    (0, b"\0\0\0\x0cJXL \r\n", MediaKind("jxl", "jxl", "image/jxl")),
    (0, b"\xff\x0a", MediaKind("jxl", "jxl", "image/jxl")),
    (0, b"\0\0\0\x0cjP  \r\n", MediaKind("jp2", "jp2", "image/jp2")),
    (0, b"8BPS", MediaKind("psd", "psd", "image/vnd.adobe.photoshop")),
    (0, b"v/1\x01", MediaKind("exr", "exr", "image/x-exr")),
    (0, b"#?RADIANCE", MediaKind("hdr", "hdr", "image/vnd.radiance")),
    (0, b"qoif", MediaKind("qoi", "qoi", "image/qoi")),
    (0, b"ID3", _MP3),
    (0, b"fLaC", MediaKind("flac", "flac", "audio/flac")),
    (0, b"#!AMR", MediaKind("amr", "amr", "audio/amr")),
    (0, b"caff", MediaKind("caf", "caf", "audio/x-caf")),
    (0, b"MThd", MediaKind("midi", "mid", "audio/midi")),
    (0, b"FLV\x01", MediaKind("flv", "flv", "video/x-flv")),
    (0, b"\0\0\x01\xba", MediaKind("mpeg", "mpg", "video/mpeg")),
    (0, b"\0\0\x01\xb3", MediaKind("mpegvideo", "mpg", "video/mpeg")),
    (0, bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), MediaKind("asf", "wmv", "video/x-ms-asf")),
    (0, b"glTF", MediaKind("glb", "glb", "model/gltf-binary")),
    (0, b"Kaydara FBX Binary", MediaKind("fbx", "fbx", "application/octet-stream")),
    (0, b"ply\n", MediaKind("ply", "ply", "application/octet-stream")),
    (0, b"ply\r\n", MediaKind("ply", "ply", "application/octet-stream")),
    (0, b"WEBVTT", MediaKind("webvtt", "vtt", "text/vtt")),
    (0, b"PK\3\4", MediaKind("zip", "zip", "application/zip")),
    (0, b"\x1f\x8b\x08", MediaKind("gzip", "gz", "application/gzip")),
    (0, b"7z\xbc\xaf\x27\x1c", MediaKind("7z", "7z", "application/x-7z-compressed")),
    (0, b"\x28\xb5\x2f\xfd", MediaKind("zstd", "zst", "application/zstd")),
    (0, b"%PDF-", MediaKind("pdf", "pdf", "application/pdf")),
    (257, b"ustar", MediaKind("tar", "tar", "application/x-tar")),
)  # fmt: skip
_RIFF = {
    b"WEBP": MediaKind("webp", "webp", "image/webp"),
    b"AVI ": MediaKind("avi", "avi", "video/x-msvideo"),
    b"WAVE": MediaKind("wav", "wav", "audio/wav"),
}
_BRANDS = {
    b"qt  ": _MOV,
    b"avif": MediaKind("avif", "avif", "image/avif"),
    b"avis": MediaKind("avif", "avif", "image/avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"),
                    MediaKind("heic", "heic", "image/heic")),
    **dict.fromkeys((b"M4A ", b"M4B "), MediaKind("m4a", "m4a", "audio/mp4")),
}  # fmt: skip
_DOCUMENT = re.compile(rb"""\s*(?:<[A-Za-z!?/]|\{\s*"|\[\s*[\[{"])""")
_JSON = re.compile(rb"""\{\s*(?:["}]|$)|\[\s*(?:[\[{"\]\d-]|true|false|null|$)""")
_PAGE = re.compile(rb"<(?:!doctype html|(?:head|body|title|script|style|div|p|center|table|h1|pre|meta|link)[\s>/])")
_MARKUP = re.compile(rb"<[A-Za-z!?/]")
_PROLOGUE = re.compile(
    rb"(?:\s+|<\?.*?\?>|<!--.*?-->|<!DOCTYPE\s+svg\b[^>\[]*(?:\[.*?\])?\s*>)*", re.DOTALL | re.IGNORECASE
)
_ROOT = re.compile(rb"<(?:[\w-]+:)?svg[\s>/]")
_SUBTITLE = re.compile(rb"\d+\r?\n\d\d:\d\d:\d\d[,.]\d{3} --> ")
_NO_MEDIA_TYPES = frozenset(
    {"application/octet-stream", "binary/octet-stream", "application/json", "application/xml", "text/html",
     "text/plain", "text/xml", "application/xhtml+xml", "application/x-www-form-urlencoded", "multipart/form-data"}
)  # fmt: skip
_EXTENSION = re.compile(r"\.([a-z0-9]{1,12})", re.IGNORECASE)
_NO_MEDIA_EXTENSIONS = frozenset({"html", "htm", "json", "xml", "php", "aspx", "tmp", "part"})
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def sniff(head: bytes) -> MediaKind | None:
    """Return what a file is, by its first 4096 bytes; `None` if they say nothing, or are no media at all."""
    if head[4:8] == b"ftyp":
        return _of_brands(head)
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip"):
        return _MOV
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return _WEBM if b"webm" in head[:64] else _MATROSKA
    if head[:4] == b"RIFF" or head[:4] == b"RF64":
        return _RIFF.get(head[8:12])
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return MediaKind("aiff", "aiff", "audio/aiff")
    if head[:4] == b"OggS":
        return _ogg(head)
    if head[:2] == b"BM" and head[6:10] == bytes(4) and len(head) > 26:
        return MediaKind("bmp", "bmp", "image/bmp")
    if head[:1] == b"\x47" == head[188:189] == head[376:377]:
        return _TS
    if head[4:5] == b"\x47" == head[196:197] == head[388:389]:
        return MediaKind("mpegts", "m2ts", "video/mp2t")
    for at, mark, kind in _STARTS:
        if head[at : at + len(mark)] == mark:
            return kind
    return _sound(head) or _text(head)


def by_name(url_path: str, content_type: str) -> MediaKind:
    """Return the kind of a file whose bytes say nothing: by the URL's name, else by the content type, else `bin`."""
    ends = _EXTENSION.fullmatch(url_path[url_path.rfind(".") :]) if "." in url_path.rpartition("/")[2] else None
    said = "" if content_type in _NO_MEDIA_TYPES else content_type
    extension = ends[1].lower() if ends else ""
    if extension in _NO_MEDIA_EXTENSIONS:
        extension = ""
    extension = extension or (mimetypes.guess_extension(said) or ".bin")[1:]
    guessed = mimetypes.guess_type(f"x.{extension}")[0] or ""
    return MediaKind("unknown", extension, said or guessed or "application/octet-stream")


def describe(head: bytes) -> str | None:
    """Say for a person what bytes are that are no media: nothing, a page, a document; `None` if they may be."""
    if not head:
        return "nothing at all"
    plain = _as_text(head)
    if plain is None:
        return None
    start = plain.lstrip()[:256].lower()
    if not start:
        return "nothing but spaces"
    if _JSON.match(start):
        return "a JSON document"
    if _MARKUP.match(start):
        page = b"<html" in plain.lower() or bool(_PAGE.match(start))
        return "an HTML page" if page else "an XML document"
    return "plain text"


def _of_brands(head: bytes) -> MediaKind:
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
    if brands[0] in (b"mif1", b"msf1") and (b"avif" in brands or b"avis" in brands):
        return _BRANDS[b"avif"]
    if brands[0][:3] in (b"3gp", b"3g2"):
        return MediaKind("mp4", "3gp", "video/3gpp")
    return _BRANDS.get(brands[0], _MP4)


def _ogg(head: bytes) -> MediaKind:
    if b"OpusHead" in head[:512]:
        return MediaKind("ogg", "opus", "audio/ogg")
    if b"\x80theora" in head[:512]:
        return MediaKind("ogg", "ogv", "video/ogg")
    return MediaKind("ogg", "ogg", "audio/ogg") if b"\x01vorbis" in head[:512] or b"Speex" in head[:512] else _OGG


def _sound(head: bytes) -> MediaKind | None:
    """Recognise MPEG audio by its first frame, its only mark: valid version, layer, rate and frequency."""
    if len(head) < 4 or head[0] != 0xFF or _as_text(head) is not None:
        return None
    if head[1] & 0xF6 == 0xF0:
        return MediaKind("aac", "aac", "audio/aac")
    real = head[1] & 0xE0 == 0xE0 and head[1] & 0x18 != 0x08 and head[1] & 0x06 and head[2] & 0xF0 not in (0, 0xF0)
    return _MP3 if real and head[2] & 0x0C != 0x0C else None


def _text(head: bytes) -> MediaKind | None:
    """Return the kind of a file that is text, and still media."""
    plain = _as_text(head)
    if plain is None:
        return None
    prologue = _PROLOGUE.match(plain)
    if _ROOT.match(plain, prologue.end() if prologue else 0):
        return _SVG
    if _SUBTITLE.match(plain.lstrip()):
        return MediaKind("srt", "srt", "application/x-subrip")
    if plain.lstrip().startswith(b"{") and re.search(rb'"asset"\s*:\s*\{[^{}]*"version"', plain):
        return MediaKind("gltf", "gltf", "model/gltf+json")
    return None


def _as_text(head: bytes) -> bytes | None:
    """Return the start of a text in UTF-8 without its byte-order mark; `None` for anything that is no text."""
    if head.startswith(_UTF_16):
        try:
            head = head[: len(head) & ~1].decode("utf-16").encode()
        except UnicodeError:
            return None
    head = head.removeprefix(b"\xef\xbb\xbf")
    if _DOCUMENT.match(head):  # whatever follows, and in whatever encoding: no other file begins like that
        return head
    if any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head):
        return None
    try:
        head.decode()
    except UnicodeDecodeError as trouble:
        if trouble.start < len(head) - 3:  # it may be cut within a character
            return None
    return head
