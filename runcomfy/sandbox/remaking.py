"""Outputs that are not quite as they should be: damaged, packed, in another container, other bytes each time."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkstemp
from typing import Any

import av

from runcomfy.sandbox.defects import DEFECTS, with_defect
from runcomfy.sandbox.output_file import OutputFile

__all__ = ["REMADE", "remade"]

REMADE = frozenset({"damaged", "glued", "packed", "remuxed", "changed"}) | DEFECTS


def remade(file: OutputFile, how: str, facts: Mapping[str, Any]) -> OutputFile:
    """Return the file in another form; blocks. Padding is left out. It lies beside the first one."""
    data, content_type = file.path.read_bytes(), file.content_type
    if how in DEFECTS:
        data, content_type = with_defect(data, content_type, how, facts)
    elif how == "damaged":
        at = data.index(b"mdat")
        size = int.from_bytes(data[at - 4 : at], "big")
        data = data[: at + 4] + bytes(size - 8) + data[at - 4 + size :]
    elif how == "glued":
        data += bytes(int(facts["bytes"]))
    elif how == "packed":
        data = gzip.compress(data, mtime=0)
    elif how == "changed":
        data += struct.pack(">I4s", 16, b"free") + os.urandom(8)
    else:
        data = _remuxed(data, str(facts["container"]))
    name = hashlib.sha256(data).hexdigest()
    path = file.path.with_name(f"{name}.{how}")
    if not path.exists():
        handle, written = mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as being_written:
            being_written.write(data)
        Path(written).replace(path)  # another call may be serving the same one
    return OutputFile(path, len(data), content_type, f'"{name}"')


def _remuxed(data: bytes, container: str) -> bytes:
    made = io.BytesIO()
    with av.open(io.BytesIO(data), "r", format="mp4") as source, av.open(made, "w", format=container) as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    return made.getvalue()
