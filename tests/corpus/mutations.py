"""Ways to spoil bytes at random, for the fuzzers of images and of media: each takes a few bytes, and returns others."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

__all__ = ["INTERESTING", "Mutation", "cut", "drop", "flip", "number", "repeat", "splice", "zeros"]

Mutation = Callable[[bytearray, random.Random, Sequence[bytes]], bytearray]
"""Given bytes (some), the source of chance, and other files to take parts of."""
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 28)


def flip(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytearray:
    """Flip one bit."""
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return data


def number(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytearray:
    """Write a number that is at the end of some range."""
    at = chance.randrange(len(data))
    layout = chance.choice((">I", "<I", ">H", "<H", "B"))
    packed = struct.pack(layout, chance.choice(INTERESTING) & (256 ** struct.calcsize(layout) - 1))
    data[at : at + len(packed)] = packed
    return data


def cut(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytearray:
    """Leave out the end."""
    return data[: chance.randrange(len(data)) + 1]


def drop(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytearray:
    """Leave out a few bytes."""
    at = chance.randrange(len(data))
    return data[:at] + data[at + chance.randrange(1, 64) :]


def repeat(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytearray:
    """Write a part some times."""
    at, size = chance.randrange(len(data)), chance.randrange(1, 2_000)
    return data[:at] + data[at : at + size] * chance.randrange(2, 9) + data[at + size :]


def splice(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytearray:
    """Put a part of another file into this one."""
    other = chance.choice(others)
    at, start = chance.randrange(len(data)), chance.randrange(len(other))
    return data[:at] + other[start : start + chance.randrange(1, 400)] + data[at:]


def zeros(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> bytearray:
    """Overwrite a part with zeros."""
    at, size = chance.randrange(len(data)), chance.randrange(1, 2_000)
    size = min(size, len(data) - at)
    data[at : at + size] = bytes(size)
    return data
