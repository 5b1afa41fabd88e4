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


def free_ports(count: int = 1) -> list[int]:
    """Return ports at which nobody listens, chosen at random, so that parallel tests choose different ones."""
    with contextlib.ExitStack() as held:
        found: list[int] = []
        for candidate in random.SystemRandom().sample(_RANGE, len(_RANGE)):
            with contextlib.suppress(OSError):
                held.enter_context(socket.create_server(("127.0.0.1", candidate)))
                found.append(candidate)
            if len(found) == count:
                return found
    raise OSError(f"fewer than {count} ports are free")
