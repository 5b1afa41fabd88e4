"""An output on disk, padded to any size at constant memory."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OutputFile"]

_CHUNK_BYTES = 1 << 18
_ZEROS = bytes(_CHUNK_BYTES)
_TYPES = {
    ".mp4": "video/mp4", ".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".mp3": "audio/mpeg",
    ".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg",
}  # fmt: skip


@dataclass(frozen=True)
class OutputFile:
    """A rendered file, followed by an MP4 `free` box up to `size_bytes`, if that is more than the file has."""

    path: Path
    size_bytes: int
    content_type: str
    etag: str

    @classmethod
    def of(cls, path: Path, padded_bytes: int = 0) -> OutputFile:
        """Describe a file; only videos are padded. A box has a header, so the least padding is 8 bytes."""
        size = path.stat().st_size
        if path.suffix == ".mp4" and padded_bytes > size:
            size = max(padded_bytes, size + 8)
        return cls(path, size, _TYPES[path.suffix], f'"{path.stem[:32]}-{size}"')

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to `end`."""
        rendered = self.path.stat().st_size
        head = _free_box_head(self.size_bytes - rendered)
        with self.path.open("rb") as file:
            file.seek(min(start, rendered))
            while start < min(end, rendered):
                data = file.read(min(_CHUNK_BYTES, end - start))
                start += len(data)
                yield data
        if rendered <= start < min(end, rendered + len(head)):
            data = head[start - rendered : end - rendered]
            start += len(data)
            yield data
        while start < end:
            data = _ZEROS[: end - start]
            start += len(data)
            yield data


def _free_box_head(size: int) -> bytes:
    if size == 0:
        return b""
    return struct.pack(">I4s", size, b"free") if size < 1 << 32 else struct.pack(">I4sQ", 1, b"free", size)
