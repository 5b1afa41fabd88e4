"""Serve one valid MP4 of any size from a plain socket, in a process of its own: `python -m benchmarks.source BYTES`.

Prints its port on one line and serves until it is terminated. The video is small and real; the rest is one `free` box
whose zeros are made while they are sent, so that neither a disk nor a web framework has a part in what is measured.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import tempfile
from pathlib import Path

import av

__all__ = ["main"]

_BLOCK = bytes(1024 * 1024)


def _video() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=16)
            stream.width, stream.height, stream.pix_fmt = 832, 480, "yuv420p"
            for number in range(81):
                frame = av.VideoFrame(832, 480, "yuv420p")
                for plane in frame.planes:
                    plane.update(bytes([number * 3]) * plane.buffer_size)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.read_bytes()


def main(size_bytes: int) -> None:
    """Serve the file to one client after another."""
    video = _video()
    padding = size_bytes - len(video)
    if padding < 16:
        raise SystemExit(f"The smallest file is {len(video) + 16} bytes.")
    start = (
        f"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: {size_bytes}\r\nConnection: close\r\n\r\n"
    ).encode() + (video + struct.pack(">I4sQ", 1, b"free", padding))
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(start)
                left = padding - 16
                while left:
                    left -= connection.send(_BLOCK[:left] if left < len(_BLOCK) else _BLOCK)


if __name__ == "__main__":
    main(int(sys.argv[1]))
