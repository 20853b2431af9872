"""Detects truncated audio files, of which libsndfile would silently decode what is left.

Containers made of chunks state the length of their samples, Ogg marks its last page, and most MP3 files begin with a
frame that states the number of bytes. A truncated MP3 file of constant bit rate without such a frame cannot be
distinguished from a complete one. A truncated FLAC file fails by itself when it is decoded.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from typing import Literal

STREAMED = 0xFFFFFFFF
"""Length in the header of a file that was written to a pipe, where it was not known; 0 means the same."""
MAX_MISSING = 0.05
"""Share of an MP3 file that may be missing, as encoders count bytes and samples differently."""

_LOG = re.compile(r"^ ?(?:data|SSND) : (\d+) \(should be (\d+)\)", re.MULTILINE)
_COUNT = re.compile(rb"sample_count -i (\d+)")
_PAGE = struct.Struct("<4sBB20xB")
"""Of Ogg: capture pattern, version, flags, ..., number of lacing values."""
_LARGEST_PAGE = 27 + 255 + 255 * 255
_LAST_PAGE = 0x04
_CHUNKS = 1 << 16
"""Chunks that are searched for the samples, at most."""


def truncation(descriptor: int, size: int, container: str, frames: int, log: str) -> str:
    """Returns what is missing at the end of a file, for a message; "" if nothing is.

    Args:
        descriptor: The open file; its position does not change.
        size: Its size in bytes.
        container: Its format, as libsndfile names it.
        frames: Its number of frames, as libsndfile counts them.
        log: libsndfile's log of its header.

    Raises:
        OSError: The file cannot be read.
    """
    if container == "OGG":
        return _ogg(descriptor, size)
    if container == "MP3":
        return _mp3(descriptor, size)
    if container == "NIST":
        found = _COUNT.search(os.pread(descriptor, 1024, 0))
        return f"{frames} of {int(found[1])} samples are there" if found and frames < int(found[1]) else ""
    if container in ("RF64", "W64", "AU", "CAF"):
        start, length = _samples(descriptor, size, container)
        return _short(size - start, length)
    lengths = _LOG.search(log)
    return _short(int(lengths[2]), int(lengths[1])) if lengths else ""


def _short(size: int, claimed: int | None) -> str:
    if claimed is None or claimed in (0, STREAMED) or claimed <= size:
        return ""
    return f"{max(size, 0)} of {claimed} bytes of samples are there"


def _samples(descriptor: int, size: int, container: str) -> tuple[int, int | None]:
    """Returns where the samples begin and how many bytes there should be, None if the header leaves that open."""
    if container == "AU":
        head = os.pread(descriptor, 12, 0)
        order: Literal["little", "big"] = "little" if head[:4] == b"dns." else "big"
        return int.from_bytes(head[4:8], order), int.from_bytes(head[8:12], order)
    found: dict[bytes, tuple[int, int]] = {}
    for name, start, length in _chunks(descriptor, size, container):
        found.setdefault(name, (start, length))
        if name == b"data":
            break
    start, length = found.get(b"data", (0, 0))
    if container == "RF64" and length == STREAMED and b"ds64" in found:
        length = int.from_bytes(os.pread(descriptor, 8, found[b"ds64"][0] + 8), "little")
    return start, None if container == "CAF" and length == (1 << 64) - 1 else length


def _chunks(descriptor: int, size: int, container: str) -> Iterator[tuple[bytes, int, int]]:
    """Yields name, position and length of the chunks of a file."""
    position, head = {"RF64": (12, "<4sI"), "W64": (40, "<4s12xQ"), "CAF": (8, ">4sQ")}[container]
    shape = struct.Struct(head)
    for _ in range(_CHUNKS):
        if position + shape.size > size:
            return
        name, length = shape.unpack(os.pread(descriptor, shape.size, position))
        if container == "W64":  # counts its own head, and begins at multiples of 8
            length -= shape.size
        yield name, position + shape.size, length
        position += shape.size + length
        position += -position % {"RF64": 2, "W64": 8, "CAF": 1}[container]


def _ogg(descriptor: int, size: int) -> str:
    """Finds the last page, which must be whole and marked as the last."""
    first = max(0, size - _LARGEST_PAGE - _PAGE.size)
    tail = os.pread(descriptor, size - first, first)
    position = len(tail)
    while (position := tail.rfind(b"OggS", 0, position)) >= 0:
        if position + _PAGE.size > len(tail):
            return "the last page is cut"
        _, version, flags, count = _PAGE.unpack_from(tail, position)
        if version == 0:
            lacing = tail[position + _PAGE.size : position + _PAGE.size + count]
            if len(lacing) < count or position + _PAGE.size + count + sum(lacing) > len(tail):
                return "the last page is cut"
            return "" if flags & _LAST_PAGE else "the page that is marked as the last is missing"
    return "the page that is marked as the last is missing"


def _mp3(descriptor: int, size: int) -> str:
    """Compares the size with the count of bytes in a Xing, Info or VBRI frame, if the file begins with one."""
    head = os.pread(descriptor, 10, 0)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    frame = os.pread(descriptor, 200, start)
    claimed = 0
    if found := re.search(rb"Xing|Info", frame):
        fields = frame[found.end() :]
        flags = int.from_bytes(fields[:4], "big")
        if flags & 2:
            claimed = int.from_bytes(fields[8 if flags & 1 else 4 :][:4], "big")
    elif found := re.search(rb"VBRI", frame):
        claimed = int.from_bytes(frame[found.end() + 6 :][:4], "big")
    rest = size - start
    return _short(rest, claimed) if rest < (1 - MAX_MISSING) * claimed else ""
