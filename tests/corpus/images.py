"""Images and what is given in the place of images: a name, the bytes, and what becomes of them. An example is one line.

`good(name, data, "image/png")` is what RunComfy gets; `bad(name, data, "words")` is refused with a sentence that has
all of these words. `python -m tests.corpus.images FOLDER` writes the files, to try them with other programs.
"""

from __future__ import annotations

import base64
import gzip
import io
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pillow_heif
from PIL import Image

__all__ = ["CORPUS", "Sample", "bad", "encoded", "exif", "good", "heic", "png_chunk", "with_chunk"]

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Sample:
    """A file, and either what RunComfy gets of it or the words of the refusal."""

    name: str
    data: bytes
    content_type: str | None
    words: tuple[str, ...] = ()


def good(name: str, data: bytes, content_type: str) -> Sample:
    return Sample(name, data, content_type)


def bad(name: str, data: bytes, *words: str) -> Sample:
    return Sample(name, data, None, words)


def pixels(mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> Image.Image:
    ramp = Image.radial_gradient("L").resize(size)
    return ramp if mode == "L" else Image.merge("RGB", (ramp, ramp.rotate(90).resize(size), ramp)).convert(mode)


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    file = io.BytesIO()
    pixels(mode, size).save(file, kind, **options)
    return file.getvalue()


def heic(mode: str = "RGB", size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(pixels(mode, size)).save(file, **options)
    return file.getvalue()


def png_chunk(name: bytes, data: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(name + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def with_chunk(*chunks: bytes) -> bytes:
    """A PNG with more chunks after its first, which is 25 bytes long."""
    return P[:33] + b"".join(chunks) + P[33:]


def with_segment(marker: int, data: bytes, times: int = 1) -> bytes:
    return J[:2] + (bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data) * times + J[2:]


def exif(orientation: int, *, entries: int = 1, big: int = 0) -> bytes:
    """EXIF data with an orientation, and further entries of which each claims `big` bytes from the start."""
    more = b"".join(struct.pack("<HHII", 0x9000 + n, 7, big, 0) for n in range(entries - 1))
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHIHH", entries, 0x0112, 3, 1, orientation, 0) + more + bytes(4 + big)


def tiff(*entries: tuple[int, int, int, int], extra: bytes = b"") -> bytes:
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + bytes(4) + extra


def box(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data) + 8) + name + data


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 0x10,)) + data[at + 1 :]


def scans(times: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encoded("JPEG", "L", (1000, 800), progressive=True)
    last = data.rfind(b"\xff\xda")
    return data[:-2] + data[last:-2] * times + data[-2:]


def made_png(depth: int, colours: int, pixels: bytes, *, interlaced: int = 0) -> bytes:
    """A PNG of 64 by 48 pixels, black as far as there are any."""
    head = struct.pack(">IIBBBBB", 64, 48, depth, colours, 0, 0, interlaced)
    palette = png_chunk(b"PLTE", bytes(48)) if colours == 3 else b""
    return (
        PNG + png_chunk(b"IHDR", head) + palette + png_chunk(b"IDAT", zlib.compress(pixels)) + png_chunk(b"IEND", b"")
    )


P, J, W, G = encoded("PNG"), encoded("JPEG"), encoded("WEBP"), encoded("GIF", "P")
T, B, A, H = encoded("TIFF"), encoded("BMP"), encoded("AVIF"), heic()
_AFTER = 13 + (3 << (G[10] & 7) + 1)  # the GIF's palette
_TEXT = b"comment\0\0" + zlib.compress(bytes(3_000_000))
_ICC = b"profile\0\0" + zlib.compress(bytes(8_000_000))
_CRLF = P.replace(b"\r\n", b"\n")
_S3 = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>no</Message></Error>'
_BOMB = PNG + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)) + P[33:]
_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"

CORPUS: tuple[Sample, ...] = (
    # whole images
    good("plain.png", P, "image/png"),
    good("plain.jpg", J, "image/jpeg"),
    good("plain.webp", W, "image/webp"),
    good("plain.gif", G, "image/gif"),
    good("plain.tiff", T, "image/tiff"),
    good("plain.bmp", B, "image/bmp"),
    good("grey16.png", encoded("PNG", "I;16"), "image/png"),
    good("one_bit.png", encoded("PNG", "1"), "image/png"),
    good("palette_alpha.png", encoded("PNG", "P", transparency=0), "image/png"),
    good("cmyk.jpg", encoded("JPEG", "CMYK"), "image/jpeg"),
    good("cmyk.tiff", encoded("TIFF", "CMYK"), "image/tiff"),
    good("grey.jpg", encoded("JPEG", "L"), "image/jpeg"),
    good("progressive.jpg", scans(0), "image/jpeg"),
    good("lzw.tiff", encoded("TIFF", compression="tiff_lzw"), "image/tiff"),
    good("jpeg.tiff", encoded("TIFF", compression="jpeg"), "image/tiff"),
    good("big.tiff", encoded("TIFF", big_tiff=True), "image/tiff"),
    good("lossless.webp", encoded("WEBP", "RGBA", lossless=True), "image/webp"),
    good("animated.webp", encoded("WEBP", save_all=True, append_images=[pixels("L")]), "image/webp"),
    good("animated.gif", encoded("GIF", "P", save_all=True, append_images=[Image.new("P", (64, 48), 3)]), "image/gif"),
    good("animated.png", encoded("PNG", save_all=True, append_images=[Image.new("RGB", (64, 48))]), "image/png"),
    good("two.jpg", encoded("MPO", save_all=True, append_images=[pixels("RGB")]), "image/jpeg"),
    # good ones that were refused for what stands beside their pixels
    good("ztxt_3_mb.png", with_chunk(png_chunk(b"zTXt", _TEXT)), "image/png"),
    good("text_3_mb.png", with_chunk(png_chunk(b"tEXt", b"workflow\0" + b"{}" * 1_500_000)), "image/png"),
    good("itxt_3_mb.png", with_chunk(png_chunk(b"iTXt", b"prompt\0\1\0\0\0" + _TEXT[9:])), "image/png"),
    good("icc_8_mb.png", with_chunk(png_chunk(b"iCCP", _ICC)), "image/png"),
    good("icc_damaged.png", with_chunk(png_chunk(b"iCCP", b"profile\0\0no zlib at all")), "image/png"),
    good("many_texts.png", with_chunk(*[png_chunk(b"zTXt", _TEXT)] * 200), "image/png"),
    good("bad_checksum.png", with_chunk(png_chunk(b"tEXt", b"a\0b", 7)), "image/png"),
    good("bad_checksum_of_exif.png", with_chunk(png_chunk(b"eXIf", exif(6), 7)), "image/png"),
    good("unknown_chunk.png", with_chunk(png_chunk(b"zzZz", b"x", 7)), "image/png"),
    good("after_the_end.png", P + b"what a program appended", "image/png"),
    good("overlapping_exif.png", with_chunk(png_chunk(b"eXIf", exif(1, entries=900, big=100_000))), "image/png"),
    good("exif_is_no_exif.jpg", with_segment(0xE1, b"Exif\0\0no TIFF at all"), "image/jpeg"),
    good("icc_damaged.jpg", with_segment(0xE2, b"ICC_PROFILE\0\1\1nothing"), "image/jpeg"),
    good("comments.jpg", with_segment(0xFE, b"a" * 60_000, 50), "image/jpeg"),
    good("motion_photo.jpg", J + box(b"ftyp", b"mp42\0\0\0\0mp42") + bytes(5_000), "image/jpeg"),
    good("fill_bytes.jpg", J[:2] + b"\xff\xff\xff" + J[2:], "image/jpeg"),
    good("comment.gif", G[:_AFTER] + b"!\xfe" + (b"\xff" + b"a" * 255) * 4_000 + b"\0" + G[_AFTER:], "image/gif"),
    # converted
    good("plain.avif", A, "image/jpeg"),
    good("alpha.avif", encoded("AVIF", "RGBA"), "image/jpeg"),
    good("photo.heic", H, "image/jpeg"),
    good("tiles.heic", heic(size=(1_200, 900), tile_size=512), "image/jpeg"),
    good("upright.heic", heic(exif=b"Exif\0\0" + exif(6)), "image/jpeg"),
    good("grey.heic", heic("L"), "image/jpeg"),
    good("sequence.avif", encoded("AVIF", save_all=True, append_images=[pixels("RGB")]), "image/jpeg"),
    # forms that are seldom
    *(good(f"{mode.replace(';', '_')}_mode.{kind.lower()}", encoded(kind, mode), f"image/{kind.lower()}") for kind, mode in (
        ("PNG", "L"), ("PNG", "LA"), ("PNG", "RGBA"), ("JPEG", "YCbCr"), ("TIFF", "LAB"), ("TIFF", "F"), ("TIFF", "I"),
        ("TIFF", "1"), ("WEBP", "L"), ("BMP", "1"), ("BMP", "P"), ("BMP", "RGBA"), ("GIF", "1"))),
    *(good(f"{ctype}_{depth}.png", made_png(depth, ctype, bytes(1 + 64 * depth * channels // 8) * 48), "image/png")
      for depth, ctype, channels in ((16, 2, 3), (16, 6, 4), (16, 4, 2), (2, 0, 1), (4, 3, 1))),
    good("interlaced.png", made_png(8, 0, bytes(3162), interlaced=1), "image/png"),
    good("more_pixels.png", made_png(8, 0, bytes(65) * 60), "image/png"),
    *(good(f"{name}.tiff", encoded("TIFF", mode, compression=name), "image/tiff") for name, mode in (
        ("packbits", "RGB"), ("tiff_adobe_deflate", "RGB"), ("group4", "1"), ("zstd", "RGB"), ("lzma", "RGB"))),
    good("restart.jpg", encoded("JPEG", restart_marker_blocks=2), "image/jpeg"),
    good("two_starts.jpg", J[:2] + J, "image/jpeg"),
    good("without_jfif.jpg", J[:2] + J[20:], "image/jpeg"),
    *(good(f"exif_{value}.jpg", with_segment(0xE1, b"Exif\0\0" + exif(value)), "image/jpeg") for value in (0, 9)),
    good("exif_cut.jpg", with_segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff"), "image/jpeg"),
    *(good(f"zip_behind.{kind}", data + b"PK\3\4" + bytes(99), f"image/{kind}")
      for kind, data in (("jpeg", J), ("webp", W), ("gif", G), ("bmp", B), ("tiff", T))),
    good("without_its_end.gif", G[:-1], "image/gif"),
    good("widest.png", encoded("PNG", size=(320, 16)), "image/png"),
    good("upside_down.bmp", B[:22] + struct.pack("<i", -48) + B[26:], "image/bmp"),
    bad("lossless.jpg", J.replace(b"\xff\xc0", b"\xff\xc3"), "is lossless, which hardly"),
    bad("ls.jpg", J.replace(b"\xff\xc0", b"\xff\xf7"), "JPEG-LS"),
    bad("twelve_bits.jpg", J.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"), "12 bits"),
    bad("jpeg_inside.bmp", B[:30] + b"\4" + B[31:], "a JPEG or PNG in a bitmap's frame"),
    bad("jpeg_xl.tiff", tiff((256, 3, 1, 64), (257, 3, 1, 48), (259, 3, 1, 50002)), "compressed as JPEG XL"),
    # cut and damaged
    bad("fewer_pixels.png", made_png(8, 0, bytes(65) * 40), "its pixels end too early"),
    bad("fewer_interlaced.png", made_png(8, 0, bytes(3161), interlaced=1), "its pixels end too early"),
    bad("no_depth.png", made_png(3, 0, bytes(65) * 48), "damaged"),
    bad("unknown_filter.png", made_png(8, 0, (b"\x09" + bytes(64)) * 48), "damaged"),
    *(bad(f"one_byte_less.{kind}", data[:-1], "damaged or cut")
      for kind, data in (("png", P), ("jpg", J), ("webp", W), ("tiff", T), ("bmp", B), ("avif", A), ("heic", H))),
    bad("strip_65535.png", encoded("PNG", "L", (65_535, 16)), "Crop"),
    bad("empty.png", b"", "empty"),
    *(bad(f"cut.{kind}", data[: len(data) * 2 // 3], "damaged or cut")
      for kind, data in (("png", P), ("webp", W), ("gif", G), ("tiff", T), ("bmp", B), ("avif", A), ("heic", H))),
    bad("cut.jpg", J[: len(J) * 2 // 3], "JPEG is damaged or cut"),
    bad("flipped.png", flipped(P, len(P) // 2), "PNG", "checksum", "again"),
    bad("no_end.png", P[:-12], "ends too early"),
    bad("only_a_head.heic", box(b"ftyp", b"heic\0\0\0\0mif1heic") + bytes(2_000), "HEIC is damaged"),
    # made to hurt
    bad("bomb.png", _BOMB, "pixels", "Scale"),
    bad("dot.png", encoded("PNG", size=(1, 1)), "1 x 1 pixels"),
    bad("strip.png", encoded("PNG", size=(2_001, 100)), "Crop"),
    bad("segments.jpg", with_segment(0xEF, b"", 100_000), "more segments"),
    bad("profiles.jpg", with_segment(0xE2, b"ICC_PROFILE\0\1\1x", 100_000), "more segments"),
    bad("scans.jpg", scans(2_000), "more scans"),
    bad("chunks.png", with_chunk(png_chunk(b"teSt", b"") * 250_000), "more chunks"),
    bad("extensions.gif", G[:_AFTER] + b"!\xfe\1a\0" * 100_000 + G[_AFTER:], "more blocks"),
    bad("entries.tiff", tiff(*[(300 + n, 1, 1, 0) for n in range(60_000)]), "more entries"),
    bad("overlap.tiff", tiff(*[(300 + n, 7, 900_000, 0) for n in range(900)], extra=bytes(1_000_000)), "overlap"),
    bad("runs.bmp", b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 1078, 40, 8000, 8000, 1, 8, 1, 0, 0, 0, 256, 0)
        + bytes(1_024) + b"\1\0" * 3_000_000, "more runs"),
    # images in a form that is not one
    bad("bom.png", b"\xef\xbb\xbf" + P, "byte-order mark", "binary"),
    bad("bom.jpg", b"\xef\xbb\xbf" + J, "byte-order mark"),
    bad("space.png", b"\n" + P, "in front"),
    bad("zeros.jpg", bytes(512) + J, "in front"),
    bad("as_text.png", P.decode("latin-1").encode(), "as text"),
    bad("as_text.jpg", J.decode("latin-1").encode(), "as text"),
    bad("replaced.png", P.decode("utf-8", "replace").encode(), "as text"),
    bad("replaced.jpg", J.decode("utf-8", "replace").encode(), "as text"),
    bad("replaced.webp", W.decode("utf-8", "replace").encode(), "as text"),
    bad("replaced.avif", A.decode("utf-8", "replace").encode(), "as text"),
    bad("unix_lines.png", _CRLF, "as text", "binary"),
    bad("base64.txt", base64.b64encode(P), "base64"),
    bad("base64.jpg", base64.b64encode(J), "base64"),
    bad("data_url.txt", b"data:image/png;base64," + base64.b64encode(P), "base64"),
    bad("apple.png", PNG + png_chunk(b"CgBI", b"\x50\0\x20\2") + P[8:], "CgBI", "pngcrush"),
    bad("packed.png.gz", gzip.compress(P), "compressed", "Unpack"),
    bad("chunked.png", b"%x\r\n" % len(P) + P + b"\r\n0\r\n\r\n", "pieces"),
    bad("aws_chunked.jpg", b"%x;chunk-signature=%s\r\n" % (len(J), b"0" * 64) + J + b"\r\n0\r\n", "pieces"),
    bad("http.png", b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n" + P, "HTTP answer", "curl"),
    bad("form.png", b"--x1\r\nContent-Disposition: form-data; name=f\r\n\r\n" + P, "form"),
    # what is there instead of the image
    bad("lfs.jpg", _LFS, "Git LFS", "git lfs pull"),
    bad("page.jpg", b"<!DOCTYPE html><html><body>Sign in</body></html>", "HTML page", "Save the image itself"),
    bad("page_bom.jpg", b"\xef\xbb\xbf\r\n<html>", "HTML page"),
    bad("s3.png", _S3, "storage service", "AccessDenied"),
    bad("feed.xml", b"<?xml version='1.0'?><rss/>", "XML"),
    bad("error.json", b'{"error": "not found"}', "JSON"),
    bad("list.json", b'[{"image": 1}]', "JSON"),
    bad("text.png", b"a text that was named image.png", "plain text"),
    bad("spaces.png", b" \r\n ", "nothing but spaces"),
    bad("zeros.png", bytes(1_000), "zero bytes"),
    bad("url.txt", b"https://example.com/a.png\n", "URL itself"),
    bad("link.url", b"[InternetShortcut]\r\nURL=https://example.com/\r\n", "link"),
    bad("photo.lnk", b"L\0\0\0\1\x14\2\0" + bytes(60), "shortcut"),
    bad("._photo.jpg", b"\0\5\x16\7\0\2\0\0Mac OS X        ", "AppleDouble", "._"),
    bad(".DS_Store", b"\0\0\0\1Bud1" + bytes(99), ".DS_Store"),
    bad("photo.desktop", b"[Desktop Entry]\nType=Link\n", "link of a desktop"),
    bad("photo.webloc", b'<?xml version="1.0"?>\n<!DOCTYPE plist PUBLIC "a" "b"><plist/>', "property list"),
    bad("annex.jpg", b"/annex/objects/SHA256E-s9--0.jpg\n", "git annex get"),
    bad("photo.jpg.dvc", b"outs:\n- md5: 0\n  path: a.jpg\n", "dvc pull"),
    bad("link_of_git.jpg", b"../photos/cat.jpg", "a link of git"),
    bad("part_of_a_page.jpg", b"<div>no</div>", "HTML page"),
    bad("bm.bmp", b"BMW is a maker of cars, and this a text", "plain text"),
    bad("brackets.txt", b"[a cat] in {snow}", "plain text"),
    bad("http2.png", b"HTTP/2 200\r\n\r\n" + P, "HTTP answer"),
    bad("two_bytes_less.jpg", J[2:], "first bytes are missing"),
    bad("one_byte_less_in_front.jpg", J[1:], "first bytes are missing"),
    *(bad(f"base64.{kind}.txt", base64.urlsafe_b64encode(data), "base64")
      for kind, data in (("jpg", J), ("tiff", T), ("bmp", B), ("avif", A), ("heic", H))),
    bad("base64_in_quotes.txt", b'"' + base64.b64encode(P) + b'"', "base64"),
    bad("svg_in_url.txt", b"data:image/svg+xml;utf8,<svg/>", "SVG"),
    bad("hex.txt", P.hex().encode(), "hexadecimal"),
    bad("repr.txt", repr(P).encode(), "as Python shows bytes"),
    bad("photo.icloud", b"bplist00\xd3\1\2\3", "iCloud"),
    bad("noise.jpg", bytes(range(7, 250)) * 9, "not known"),
    # other kinds of files
    bad("drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "SVG", "Export"),
    bad("paper.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "PDF", "Export"),
    bad("paper.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    bad("clip.mp4", box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41") + bytes(100), "video", "ffmpeg"),
    bad("clip.mov", box(b"ftyp", b"qt  \0\0\2\0qt  ") + bytes(100), "video"),
    bad("clip.webm", b"\x1a\x45\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\xf2\x81\4B\xf3\x81\x08B\x82\x84webm", "video"),
    bad("clip.avi", b"RIFF\xff\0\0\0AVI LIST" + bytes(99), "video"),
    bad("song.mp3", b"ID3\4\0\0\0\0\0\0" + bytes(99), "sound"),
    bad("song.wav", b"RIFF\xff\0\0\0WAVEfmt " + bytes(99), "sound"),
    bad("images.zip", b"PK\3\4\x14\0\0\0\x08\0" + bytes(99), "archive"),
    bad("images.rar", b"Rar!\x1a\7\1\0", "archive"),
    bad("picture.psd", b"8BPS\0\1" + bytes(99), "Photoshop"),
    bad("picture.xcf", b"gimp xcf v011\0", "GIMP"),
    bad("picture.ico", b"\0\0\1\0\1\0\x10\x10" + bytes(99), "icon"),
    bad("picture.icns", b"icns\0\0\1\0", "icon"),
    bad("picture.jxl", b"\xff\x0a" + bytes(99), "JPEG XL"),
    bad("picture.jp2", b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    bad("picture.exr", b"\x76\x2f\x31\x01" + bytes(99), "OpenEXR"),
    bad("picture.hdr", b"#?RADIANCE\nFORMAT=", "Radiance"),
    bad("picture.qoi", b"qoif\0\0\0\x40\0\0\0\x30\3\0", "QOI"),
    bad("picture.ppm", b"P6\n2 2\n255\n" + bytes(12), "Netpbm"),
    bad("picture.dds", b"DDS |\0\0\0" + bytes(99), "DirectDraw"),
    bad("scan.dcm", bytes(128) + b"DICM" + bytes(9), "DICOM"),
    bad("photo.cr2", b"II*\0\x10\0\0\0CR\2\0" + bytes(99), "raw photo"),
    bad("photo.cr3", box(b"ftyp", b"crx \0\0\0\1crx isom") + bytes(99), "raw photo"),
    bad("photo.orf", b"IIRO\x08\0\0\0" + bytes(99), "raw photo"),
    bad("photo.rw2", b"IIU\0\x18\0\0\0" + bytes(99), "raw photo"),
    bad("photo.raf", b"FUJIFILMCCD-RAW 0201FF", "raw photo"),
    bad("photo.dng", tiff((254, 4, 1, 1), (256, 3, 1, 160), (257, 3, 1, 120), (50706, 1, 4, 0x401)), "raw photo"),
    bad("photo.nef", tiff((254, 4, 1, 1), (256, 3, 1, 160), (257, 3, 1, 120), (330, 4, 1, 8)), "raw photo"),
    *(bad(f"picture.{kind}", start + bytes(99), words) for kind, start, words in (
        ("mng", b"\x8aMNG\r\n\x1a\n", "MNG"), ("jng", b"\x8bJNG\r\n\x1a\n", "JNG"), ("flif", b"FLIF", "FLIF"),
        ("bpg", b"BPG\xfb", "BPG"), ("djvu", b"AT&TFORM", "DjVu"), ("indd", b"\6\6\xed\xf5", "InDesign"),
        ("afphoto", b"\0\xffKA", "Affinity"), ("blp", b"BLP2", "BLP"), ("emf", b"\1\0\0\0" + bytes(36) + b" EMF", "metafile"),
        ("cur", b"\0\0\2\0\1\0", "mouse pointer"), ("blend", b"BLENDER-v300", "Blender"), ("rgb", b"\x01\xda\0\1", "SGI"),
        ("xpm", b"/* XPM */", "XPM"), ("dib", b"\x28\0\0\0", "DIB"), ("npy", b"\x93NUMPY\1\0", "array"),
        ("h5", b"\x89HDF\r\n\x1a\n", "array"), ("pickle", b"\x80\4\x95", "array"), ("ttf", b"\0\1\0\0\0", "font"),
        ("woff", b"wOFF", "font"), ("lz4", b"\4\x22\x4d\x18", "compressed"), ("zlib", b"\x78\x9c", "compressed"),
        ("gpg", b"-----BEGIN PGP MESSAGE-----", "encrypted"), ("enc", b"Salted__", "encrypted"))),
    bad("table.parquet", b"PAR1" + bytes(99), "Parquet"),
    bad("table.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Office"),
    bad("program.exe", b"MZ\x90\0" + bytes(99), "program"),
    bad("data.db", b"SQLite format 3\0" + bytes(99), "database"),
)  # fmt: skip


def write(folder: Path, wanted: Callable[[Sample], bool] = lambda sample: True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for sample in filter(wanted, CORPUS):
        (folder / sample.name).write_bytes(sample.data)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
