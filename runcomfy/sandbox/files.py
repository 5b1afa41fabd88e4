"""Serve outputs: ranges, and the ways in which downloads break."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

from aiohttp import web

from runcomfy.sandbox.output_file import OutputFile
from runcomfy.sandbox.remaking import REMADE, remade

__all__ = ["OutputFile", "hang_up", "send"]

_CHUNK_BYTES = 1 << 18


def hang_up(request: web.Request, *, reset: bool) -> None:
    """Close the caller's connection: with a RST, or cleanly once everything written has left."""
    transport = request.transport
    if transport is None:
        return
    if reset:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()


async def send(
    request: web.Request,
    file: OutputFile,
    count: Callable[[int], None],
    fault: tuple[str, dict[str, Any]] | None = None,
) -> web.StreamResponse:
    """Answer a download; `count` gets the size of each piece sent; `fault` says how it breaks."""
    how, facts = fault or ("", {})
    if how in REMADE:
        file = await asyncio.to_thread(remade, file, how, facts)
    content_type = "application/octet-stream" if how == "type" else file.content_type
    headers = {"Content-Type": content_type, "ETag": file.etag, "Accept-Ranges": "bytes"}
    headers |= {"Content-Encoding": "gzip"} if how == "packed" else {}
    start, end, status = 0, file.size_bytes, 200
    if (asked := _asked_range(request, file)) is not None:
        start, end, status = *asked, 206
        if start >= end:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{file.size_bytes}"})
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size_bytes}"
    # A place in the file, not in the answer: who asks for the rest behind it meets the same fault again, at once.
    last = min(end, max(start, int(file.size_bytes * facts["fraction"]))) if "fraction" in facts else end
    if how == "end" and facts["framing"] == "close":
        return await _send_unframed(request, file, start, last, count)
    answer = web.StreamResponse(status=status, headers=headers)
    if how != "end":
        answer.content_length = (last if how == "length" else end) - start
    await answer.prepare(request)
    if request.method == "HEAD":
        return answer
    async for data in file.read(start, last):
        await answer.write(data)
        count(len(data))
    if how == "stall":
        await _stall(request, facts["seconds"])
    if how in ("close", "reset", "stall"):
        hang_up(request, reset=how == "reset")
    else:
        await answer.write_eof()
    return answer


def _asked_range(request: web.Request, file: OutputFile) -> tuple[int, int] | None:
    if request.headers.get("If-Range", file.etag) != file.etag:
        return None
    try:
        asked = request.http_range
    except ValueError:
        return None  # one that cannot be read, or several of them: the whole file, as RFC 9110 allows
    if asked.start is None and asked.stop is None:
        return None
    start, end, _ = asked.indices(file.size_bytes)
    return start, end


async def _stall(request: web.Request, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (  # noqa: ASYNC110 - a transport reports its closing to its protocol only
        loop.time() < until and request.transport is not None and not request.transport.is_closing()
    ):
        await asyncio.sleep(0.05)


async def _send_unframed(
    request: web.Request, file: OutputFile, start: int, end: int, count: Callable[[int], None]
) -> web.StreamResponse:
    """Send a body that only the end of the connection delimits, which no HTTP library offers on purpose."""
    transport = request.transport
    if transport is not None:
        transport.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: video/mp4\r\n\r\n")
        async for data in file.read(start, end):
            transport.write(data)
            count(len(data))
            while transport.get_write_buffer_size() > _CHUNK_BYTES:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.001)
        transport.close()
    return web.Response()
