"""Serve valid MP4s of any size from a plain socket, in a process of its own: `python -m benchmarks.source`.

Prints its port on one line and serves until it is terminated: `/8000000.mp4` is a video of 8 MB. The frames are small
and real; the rest is one `free` box of noise that no store can compress, so that neither a disk nor a web framework is
measured. Ranges are answered, with a strong ETag, as object stores and their caches do.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import socket
import struct
import tempfile
import threading
import time
from pathlib import Path

import av

__all__ = ["main"]

_BLOCK = random.Random(7).randbytes(1024 * 1024)  # noqa: S311 - noise, not a secret


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


class _Source:
    def __init__(self, limit_bytes_per_second: float | None) -> None:
        self._video = _video()
        self._limit = limit_bytes_per_second

    def serve(self, connection: socket.socket) -> None:
        """Answer one request."""
        with connection, contextlib.suppress(OSError):
            head = connection.recv(65536)
            size = int(re.search(rb"/(\d+)\.mp4", head)[1])  # type: ignore[index]
            start, end, status = 0, size, "200 OK"
            if asked := re.search(rb"\r\nRange: bytes=(\d+)-(\d*)\r\n", head, re.IGNORECASE):
                start, end, status = int(asked[1]), min(size, int(asked[2] or size) + 1), "206 Partial Content"
            connection.sendall(
                f'HTTP/1.1 {status}\r\nContent-Type: video/mp4\r\nETag: "{size}"\r\nAccept-Ranges: bytes\r\n'
                f"Content-Range: bytes {start}-{end - 1}/{size}\r\nContent-Length: {end - start}\r\n"
                "Connection: close\r\n\r\n".encode()
            )
            self._send(connection, start, end, self._video + struct.pack(">I4sQ", 1, b"free", size - len(self._video)))

    def _send(self, connection: socket.socket, start: int, end: int, head: bytes) -> None:
        if start < len(head):
            connection.sendall(head[start:end])
        at, began = max(start, len(head)), time.monotonic()
        first = at
        step = len(_BLOCK) if self._limit is None else 64 * 1024
        while at < end:
            within = (at - len(head)) % len(_BLOCK)
            at += connection.send(memoryview(_BLOCK)[within : within + min(step, end - at)])
            if self._limit is not None:
                time.sleep(max(0.0, began + (at - first) / self._limit - time.monotonic()))


def main() -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-connection-limit", type=float, help="MB/s that one connection gets, as over a long way")
    limit = parser.parse_args().per_connection_limit
    source = _Source(None if limit is None else limit * 1e6)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=source.serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
