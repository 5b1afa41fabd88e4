"""Say for a person what a file is that was given as an image and is none, and what to do about it."""

from __future__ import annotations

import re

from runcomfy.media.image_parts import image_format
from runcomfy.media.kinds import SNIFF_BYTES, describe, sniff

__all__ = ["PAGE", "RAW_PHOTO", "SAVED_AS_TEXT", "refusal_of", "was_text"]

PAGE = "an HTML page"
_USE = "Use a JPEG, PNG or WebP file."
_EXPORT = "Export it as a JPEG, PNG or WebP file."
RAW_PHOTO = ("a camera's raw photo", _EXPORT)
SAVED_AS_TEXT = (
    "an image that a program wrote as text, which changes bytes", "Copy or download it again, as a binary file."
)  # fmt: skip
_BASE64 = ("an image as base64 text", "Decode it (base64 --decode), and give the file that comes out.")
_UNPACK = "Unpack it, and give the image in it."
_WITH_HEADERS = ("a whole HTTP answer with its headers", "Save the body alone (curl without -i).")
_CUT_IN_FRONT = ("an image whose first bytes are missing", "Copy or download it again.")
_ARRAYS = (
    "data of a program (an array or objects)",
    "Save it as a PNG, for instance with Pillow: Image.fromarray(…).save(…).",
)
_ENCRYPTED = ("an encrypted file", "Decrypt it, and give the image in it.")

_STARTS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs.github.com/spec/", "a Git LFS pointer",
     "The image itself was not downloaded: run `git lfs pull` where the repository is."),
    (0, b"\0\5\x16\7", "what macOS writes beside a file (AppleDouble)",
     "Use the file whose name has no `._` in front."),
    (0, b"\0\5\x16\0", "what macOS writes beside a file (AppleSingle)", _EXPORT),
    (0, b"bplist", "a property list of macOS", "If it stands for a file in iCloud, download that one first."),
    (0, b"\0\0\0\1Bud1", "what macOS writes into a folder (.DS_Store)", _USE),
    (0, b"[InternetShortcut]", "a link to a web page", "Open it, and save the image."),
    (0, b"[Desktop Entry]", "a link of a desktop", "Use the file that it leads to."),
    (0, b"/annex/objects/", "a git-annex pointer",
     "The image itself was not downloaded: run `git annex get` where the repository is."),
    (0, b"outs:\n- ", "a DVC pointer", "The image itself was not downloaded: run `dvc pull` where the repository is."),
    (0, b"L\0\0\0\1\x14\2\0", "a Windows shortcut", "Use the file that it leads to."),
    (0, b"HTTP/1.", *_WITH_HEADERS), (0, b"HTTP/2 ", *_WITH_HEADERS), (0, b"HTTP/3 ", *_WITH_HEADERS),
    (0, b"\xef\xbf\xbdPNG", *SAVED_AS_TEXT), (0, b"\xc2\x89PNG", *SAVED_AS_TEXT), (0, b"\x89PNG", *SAVED_AS_TEXT),
    (0, b"PNG\r\n\x1a\n", *SAVED_AS_TEXT), (0, b"?PNG", *SAVED_AS_TEXT), (0, b"\tPNG\r\n\x1a\n", *SAVED_AS_TEXT),
    (0, b"\xef\xbf\xbd" * 3, *SAVED_AS_TEXT), (0, b"\xc3\xbf\xc3\x98\xc3\xbf", *SAVED_AS_TEXT),
    (0, b"IIRO", *RAW_PHOTO), (0, b"IIRS", *RAW_PHOTO), (0, b"MMOR", *RAW_PHOTO),
    (0, b"IIU\0", *RAW_PHOTO), (0, b"FUJIFILMCCD-RAW", *RAW_PHOTO), (0, b"FOVb", *RAW_PHOTO), (0, b"\0MRM", *RAW_PHOTO),
    (4, b"ftypcrx ", *RAW_PHOTO),
    (0, b"8BPS", "a Photoshop document", _EXPORT),
    (0, b"gimp xcf", "a GIMP document", _EXPORT),
    (0, b"%!PS", "a PostScript document", _EXPORT),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript document", _EXPORT),
    (0, b"\xd8\xff", *_CUT_IN_FRONT), (4, b"JFIF\0", *_CUT_IN_FRONT), (5, b"JFIF\0", *_CUT_IN_FRONT),
    (0, b"\x8aMNG", "an animation of the kind MNG", _EXPORT), (0, b"\x8bJNG", "a JNG image", _EXPORT),
    (0, b"FLIF", "a FLIF image", _EXPORT), (0, b"BPG\xfb", "a BPG image", _EXPORT),
    (0, b"AT&TFORM", "a DjVu document", _EXPORT), (0, b"\x06\x06\xed\xf5", "an InDesign document", _EXPORT),
    (0, b"\0\xffKA", "an Affinity document", _EXPORT), (0, b"BLP1", "a BLP texture", _EXPORT),
    (0, b"BLP2", "a BLP texture", _EXPORT), (40, b" EMF", "a Windows metafile", _EXPORT),
    (0, b"\1\0\x09\0\0", "a Windows metafile", _EXPORT), (0, b"\0\0\2\0\1\0", "a mouse pointer", _EXPORT),
    (0, b"BLENDER", "a Blender project", "Render it, and give the image."),
    (0, b"\x01\xda\0", "an SGI image", _EXPORT), (0, b"\x01\xda\1", "an SGI image", _EXPORT),
    (0, b"/* XPM */", "an XPM image", _EXPORT), (0, b"Image type:", "an IM image", _EXPORT),
    (0, b"DanM", "a Paint image", _EXPORT), (0, b"LinS", "a Paint image", _EXPORT),
    (0, b"\x28\0\0\0", "a bitmap without its file header (DIB)", _EXPORT),
    (0, b"\x93NUMPY", *_ARRAYS), (0, b"\x89HDF", *_ARRAYS), (0, b"\x80\3", *_ARRAYS), (0, b"\x80\4\x95", *_ARRAYS),
    (0, b"\x80\5\x95", *_ARRAYS), (344, b"n+1\0", "a NIfTI image", _EXPORT), (8, b'{"', "a file of weights", _USE),
    (0, b"-----BEGIN PGP", *_ENCRYPTED), (0, b"Salted__", *_ENCRYPTED), (0, b"age-encryption.org", *_ENCRYPTED),
    (0, b"\x04\x22\x4d\x18", "a compressed file", _UNPACK), (0, b"\xff\6\0\0sNaPpY", "a compressed file", _UNPACK),
    (0, b"\x78\x9c", "a compressed file", _UNPACK), (0, b"\x78\x01", "a compressed file", _UNPACK),
    (0, b"\x78\xda", "a compressed file", _UNPACK), (0, b"\0\1\0\0\0", "a font", _USE), (0, b"wOF", "a font", _USE),
    (0, b"OTTO\0", "a font", _USE),
    (0, b"\0\0\1\0", "an icon", _EXPORT), (0, b"icns", "an icon", _EXPORT),
    (0, b"\xd7\xcd\xc6\x9a", "a Windows metafile", _EXPORT),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image", _EXPORT),
    (0, b"DDS ", "a DirectDraw texture", _EXPORT), (0, b"farbfeld", "a farbfeld image", _EXPORT),
    (0, b"SIMPLE  =", "a FITS image", _EXPORT), (128, b"DICM", "a DICOM image", _EXPORT),
    (0, b"\xabKTX", "a KTX texture", _EXPORT), (0, b"\x59\xa6\x6a\x95", "a Sun raster image", _EXPORT),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image", _EXPORT),
    (0, b"SQLite format 3\0", "a database", _USE),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document", "Save the image that is in it."),
    (0, b"{\\rtf", "an RTF document", "Save the image that is in it."),
    (0, b"MZ", "a program", _USE), (0, b"\x7fELF", "a program", _USE),
    (0, b"PAR1", "a Parquet file", "A manifest is given to `batch`, an image here."),
    (0, b"Rar!", "an archive", _UNPACK), (0, b"BZh", "a compressed file", _UNPACK),
    (0, b"\xfd7zXZ\0", "a compressed file", _UNPACK),
    (0, b"\0asm", "a program", _USE),
)  # fmt: skip
_BASE64_OF_IMAGES = re.compile(
    rb"""\s*["']?(?:data:image/(?!svg)[\w.+-]+;base64,|data:application/octet-stream;base64,)?"""
    rb"(?:iVBORw0KGgo|[/_]9j[/_]|UklGR|R0lGOD|Qk[0-3][A-Za-z0-9+/_-]{6}AAAA|SUkqA|TU0AK|AAAA[A-Za-z0-9+/_-]{2}Z0eX)"
)
_SVG_IN_URL = re.compile(rb"\s*data:image/svg", re.IGNORECASE)
_HEX = re.compile(rb"\s*(?:0x|\\x)?(?:89504e470d0a1a0a|ffd8ff|52494646|47494638)[0-9a-f\s]+$", re.IGNORECASE)
_REPR = re.compile(rb"\s*b['\"](?:\\x89PNG|\\xff\\xd8|RIFF|GIF8)")
_PATH = re.compile(rb"\s*[\w./~-]{1,300}\.(?:jpe?g|png|webp|gif|tiff?|bmp|avif|heic)\s*$", re.IGNORECASE)
_PATTERNS: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (re.compile(rb"P[1-7fF][\s#]"), "a Netpbm image", _EXPORT),
    (re.compile(rb"[0-9a-f]{1,8}(?:;chunk-signature=[0-9a-f]{64}|;\s*\w+=[^\r]*)?\r\n(?=\x89PNG|\xff\xd8\xff|RIFF|GIF8)"),
     "an image in pieces, as they are on the wire (chunked transfer encoding)",
     "Upload it again with a client that decodes them; a proxy or an old S3 server kept them."),
    (re.compile(rb"--[^\r\n]{1,70}\r\nContent-Disposition:", re.IGNORECASE), "the body of a form with a file in it",
     "Store the file that was uploaded, not the request."),
    (re.compile(rb"\s*<\?xml[^>]{0,200}>\s*<!DOCTYPE plist", re.IGNORECASE), "a property list of macOS",
     "If it is a link to an image, open it, and save the image."),
    (_BASE64_OF_IMAGES, *_BASE64),
    (_SVG_IN_URL, "an SVG drawing in a data: URL", _EXPORT),
    (_HEX, "an image as hexadecimal text", "Decode it (xxd -r -p), and give the file that comes out."),
    (_REPR, "an image as Python shows bytes", "Write the bytes themselves, in mode 'wb'."),
    (_PATH, "a text with the name of an image, as a link of git is without links",
     "Give the image that it names (git config core.symlinks true, and check it out again)."),
    (re.compile(rb"\s*(?:https?|s3|file)://\S+\s*$"), "a text file with a URL", "Give the URL itself as the image."),
)  # fmt: skip
_KINDS = {
    "svg": ("an SVG drawing", _EXPORT), "pdf": ("a PDF", "Export the page as a JPEG, PNG or WebP file."),
    "zip": ("an archive or an Office document", _UNPACK), "gzip": ("a compressed file", _UNPACK),
    "7z": ("an archive", _UNPACK), "zstd": ("a compressed file", _UNPACK), "tar": ("an archive", _UNPACK),
    "jxl": ("a JPEG XL image", _EXPORT), "jp2": ("a JPEG 2000 image", _EXPORT), "qoi": ("a QOI image", _EXPORT),
    "hdr": ("a Radiance HDR image", _EXPORT),
    "srt": ("subtitles", _USE), "webvtt": ("subtitles", _USE),
    "gltf": ("a 3D model", _USE), "glb": ("a 3D model", _USE), "fbx": ("a 3D model", _USE), "ply": ("a 3D model", _USE),
}  # fmt: skip
_CODE = re.compile(rb"<Code>([A-Za-z]{1,60})</Code>")
_REPLACED = "\N{REPLACEMENT CHARACTER}".encode()
"""What decoders of texts put in the place of bytes that are none."""
_BLANK = b"\0 \t\r\n"


def refusal_of(data: bytes) -> tuple[str, str]:
    """Return what the file is, with its article, and what to do: for `It is {}. {}`."""
    head = data[:SNIFF_BYTES]
    if not data.strip(_BLANK):
        what = "nothing but zero bytes" if not data.strip(b"\0") else "nothing but spaces"
        return what, "Copy or download it again: the image did not arrive."
    if head.startswith(b"\xef\xbb\xbf") and image_format(head[3:]):
        return "an image with a byte-order mark in front, which belongs to texts", "Write it again, as a binary file."
    if image_format(head.lstrip()) or image_format(head.lstrip(_BLANK)):
        return "an image with spaces or zero bytes in front of it", "Write it again without them."
    for at, start, what, advice in _STARTS:
        if head[at : at + len(start)] == start:
            return what, advice
    if was_text(head):
        return SAVED_AS_TEXT
    for pattern, what, advice in _PATTERNS:
        if pattern.match(head):
            return what, advice
    return _by_kind(head)


def was_text(head: bytes) -> bool:
    """Whether the start of a file went through a program that decodes texts, which replaces what is none."""
    return head.count(_REPLACED) > max(4, len(head) // 50)


def _by_kind(head: bytes) -> tuple[str, str]:
    kind = sniff(head)
    if kind is not None and kind.container in _KINDS:
        return _KINDS[kind.container]
    if kind is not None and kind.content_type.startswith("video/"):
        return "a video", "Save one frame of it: ffmpeg -i VIDEO -frames:v 1 frame.png"
    if kind is not None and kind.content_type.startswith("audio/"):
        return "a sound", _USE
    what = describe(head)
    if what == PAGE:
        return what, "It is what a browser shows, or a login page that was saved. Save the image itself."
    if what == "an XML document" and (code := _CODE.search(head)):
        return f"an error that a storage service answered ({code[1].decode()})", "Download the image again."
    if what == "a JSON document":
        return what, "If it is an answer with an error, read it; if it is a sidecar or a manifest, name the image."
    return what or "of a kind that is not known", _USE
