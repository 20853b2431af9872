"""Random changes to the bytes of a file: flipped bits, forged sizes, lost, repeated and grafted parts."""

from __future__ import annotations

import random
import struct

HEADER = 120
"""Bytes in which most of what a reader believes is said."""
FORGED = (0, 1, 2, 3, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE)


def mutated(content: bytes, chance: random.Random, others: list[bytes], header: int = HEADER) -> bytes:
    """Returns a file that was changed once to four times.

    Args:
        content: The file.
        chance: Draws the changes.
        others: Files whose ends may be grafted onto it.
        header: Bytes at its beginning that are hit as often as all others together.
    """
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        chance.choice(CHANGES)(changed, chance, others, header)
    return bytes(changed)


def _place(content: bytearray, chance: random.Random, header: int) -> int:
    most = len(content) if chance.random() < 0.5 else min(header, len(content))
    return chance.randrange(max(1, most))


def flip(content: bytearray, chance: random.Random, others: list[bytes], header: int) -> None:
    for _ in range(chance.choice((1, 1, 8, 64))):
        if content:
            content[_place(content, chance, header) % len(content)] ^= 1 << chance.randrange(8)


def forge(content: bytearray, chance: random.Random, others: list[bytes], header: int) -> None:
    """A number of two or four bytes, in either order: sizes, rates, channels, bits."""
    value, order, size = chance.choice(FORGED), chance.choice("<>"), chance.choice((2, 4))
    place = _place(content, chance, header)
    content[place : place + size] = struct.pack(f"{order}{'H' if size == 2 else 'I'}", value & (1 << 8 * size) - 1)


def cut(content: bytearray, chance: random.Random, others: list[bytes], header: int) -> None:
    del content[_place(content, chance, header) :]


def drop(content: bytearray, chance: random.Random, others: list[bytes], header: int) -> None:
    place = _place(content, chance, header)
    del content[place : place + chance.choice((1, 2, 3, 100, 5000))]


def insert(content: bytearray, chance: random.Random, others: list[bytes], header: int) -> None:
    place = _place(content, chance, header)
    content[place:place] = chance.randbytes(chance.choice((1, 2, 3, 100, 5000)))


def zero(content: bytearray, chance: random.Random, others: list[bytes], header: int) -> None:
    place = _place(content, chance, header)
    size = min(chance.choice((4, 512, 4096)), len(content) - place)
    content[place : place + size] = bytes(max(0, size))


def noise(content: bytearray, chance: random.Random, others: list[bytes], header: int) -> None:
    place = _place(content, chance, header)
    size = min(chance.choice((4, 64, 4096)), max(0, len(content) - place))
    content[place : place + size] = chance.randbytes(size)


def repeat(content: bytearray, chance: random.Random, others: list[bytes], header: int) -> None:
    place, size = _place(content, chance, header), chance.choice((8, 60, 4096))
    content[place:place] = content[place : place + size] * chance.choice((1, 3, 50))


def graft(content: bytearray, chance: random.Random, others: list[bytes], header: int) -> None:
    """The beginning of one file and the end of another."""
    other = chance.choice(others)
    content[_place(content, chance, header) :] = other[chance.randrange(len(other)) :]


def empty(content: bytearray, chance: random.Random, others: list[bytes], header: int) -> None:
    content.clear()


CHANGES = (flip, flip, flip, forge, forge, forge, forge, cut, drop, insert, zero, noise, repeat, graft, empty)
