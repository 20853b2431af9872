"""Audio files of eight kinds, and what chance, a bad disk or an enemy makes of them."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterator

import numpy as np
import soundfile

KINDS = (
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"),
)  # fmt: skip
HEADER = 120
"""Bytes in which most of what a decoder believes is said."""
FORGED = (0, 1, 2, 3, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE)


def originals(seconds: float = 1.0) -> list[bytes]:
    """Returns one sound in every kind, in one channel and in two."""
    rng, made = np.random.default_rng(7), []
    for container, subtype in KINDS:
        for channels in (1, 2):
            tone = np.sin(np.arange(round(16000 * seconds)) / 9)[:, None] * np.ones(channels)
            sound = 0.2 * tone + 0.05 * rng.normal(size=tone.shape)
            file = io.BytesIO()
            soundfile.write(file, sound.astype(np.float32), 16000, format=container, subtype=subtype)
            made.append(file.getvalue())
    return made


def mutated(count: int, seed: int, seconds: float = 1.0) -> Iterator[bytes]:
    """Yields files that were changed once to four times; the n-th is the same for the same seed."""
    files = originals(seconds)
    for n in range(count):
        chance = random.Random(f"{seed} {n}")
        content = bytearray(files[n % len(files)])
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            chance.choice(CHANGES)(content, chance, files)
        yield bytes(content)


def _place(content: bytearray, chance: random.Random) -> int:
    """Headers are hit as often as all else."""
    most = len(content) if chance.random() < 0.5 else min(HEADER, len(content))
    return chance.randrange(max(1, most))


def flip(content: bytearray, chance: random.Random, files: list[bytes]) -> None:
    for _ in range(chance.choice((1, 1, 8, 64))):
        if content:
            content[_place(content, chance) % len(content)] ^= 1 << chance.randrange(8)


def forge(content: bytearray, chance: random.Random, files: list[bytes]) -> None:
    """A number of two or four bytes, in either order: sizes, rates, channels, bits."""
    value, order, size = chance.choice(FORGED), chance.choice("<>"), chance.choice((2, 4))
    place = _place(content, chance)
    content[place : place + size] = struct.pack(f"{order}{'H' if size == 2 else 'I'}", value & (1 << 8 * size) - 1)


def cut(content: bytearray, chance: random.Random, files: list[bytes]) -> None:
    del content[_place(content, chance) :]


def drop(content: bytearray, chance: random.Random, files: list[bytes]) -> None:
    place = _place(content, chance)
    del content[place : place + chance.choice((1, 2, 3, 100, 5000))]


def insert(content: bytearray, chance: random.Random, files: list[bytes]) -> None:
    place = _place(content, chance)
    content[place:place] = chance.randbytes(chance.choice((1, 2, 3, 100, 5000)))


def zero(content: bytearray, chance: random.Random, files: list[bytes]) -> None:
    place = _place(content, chance)
    size = min(chance.choice((4, 512, 4096)), len(content) - place)
    content[place : place + size] = bytes(max(0, size))


def noise(content: bytearray, chance: random.Random, files: list[bytes]) -> None:
    place = _place(content, chance)
    size = min(chance.choice((4, 64, 4096)), max(0, len(content) - place))
    content[place : place + size] = chance.randbytes(size)


def repeat(content: bytearray, chance: random.Random, files: list[bytes]) -> None:
    place, size = _place(content, chance), chance.choice((8, 60, 4096))
    content[place:place] = content[place : place + size] * chance.choice((1, 3, 50))


def graft(content: bytearray, chance: random.Random, files: list[bytes]) -> None:
    """The beginning of one file and the end of another."""
    other = chance.choice(files)
    content[_place(content, chance) :] = other[chance.randrange(len(other)) :]


def empty(content: bytearray, chance: random.Random, files: list[bytes]) -> None:
    content.clear()


CHANGES = (flip, flip, flip, forge, forge, forge, forge, cut, drop, insert, zero, noise, repeat, graft, empty)
