"""Ports for servers that a test starts as processes of their own, with the port as an argument.

The kernel gives outgoing connections any free port above 32767, and between the choice of a port and the start of its
server there are seconds: one from above would now and then be taken by a connection of a parallel test.
"""

from __future__ import annotations

import contextlib
import random
import socket

__all__ = ["free_ports"]

_RANGE = range(30_001, 32_768)
"""Below what the kernel gives away, and above what the object store chooses from."""
_reserved: list[socket.socket] = []
"""The same ports of UDP, which no server here uses: as long as this process has them, no parallel one takes them."""


def free_ports(count: int = 1) -> list[int]:
    """Return ports at which nobody listens, and which no other call returns while this process lives."""
    found: list[int] = []
    for candidate in random.SystemRandom().sample(_RANGE, len(_RANGE)):
        with contextlib.suppress(OSError), contextlib.ExitStack() as undo:
            reserved = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            reserved.bind(("127.0.0.1", candidate))
            socket.create_server(("127.0.0.1", candidate)).close()
            undo.pop_all()
            _reserved.append(reserved)
            found.append(candidate)
        if len(found) == count:
            return found
    raise OSError(f"fewer than {count} ports are free")
