"""All simple damages of a file: each byte changed, each shorter length, each block zeroed. Also makes a clip row."""

from __future__ import annotations

from collections.abc import Iterator

from gramcli.dataset.clip import Clip


def flips(content: bytes, masks: tuple[int, ...] = (0x01, 0x20, 0x80, 0xFF)) -> Iterator[bytes]:
    """Yields the content with each byte in turn changed in some ways."""
    for place in range(len(content)):
        for mask in masks:
            yield content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :]


def truncations(content: bytes) -> Iterator[bytes]:
    """Yields every proper beginning of the content, the empty one first."""
    return (content[:length] for length in range(len(content)))


def zeroed(content: bytes, block: int) -> Iterator[bytes]:
    """Yields the content with one block after another lost, where that changes anything."""
    for place in range(0, len(content), block):
        changed = content[:place] + bytes(len(content[place : place + block])) + content[place + block :]
        if changed != content:
            yield changed


def clip(number: int, **changes: object) -> Clip:
    """Returns a plain training clip; `number` is in its key and its row of shard 0."""
    values = {
        "id": f"dog/{number}.wav",
        "key": f"{number:064x}",
        "source": f"dog/{number}.wav",
        "path": f"/sounds/dog/{number}.wav",
        "bytes": 1000 + number,
        "mtime_ns": 1_700_000_000_123_456_789,
        "start": None,
        "end": None,
        "label": "dog",
        "split": "train",
        "group": f"g{number}",
        "shard": 0,
        "row": number,
    }
    return Clip(**{**values, **changes})  # type: ignore[arg-type]


def nan_for_zero(content: bytes, first: int) -> bytes:
    """Returns the content with the next float32 zero made a NaN: no sum modulo 65,535 tells them apart."""
    place = content.index(bytes(4), first)
    return content[:place] + b"\xff" * 4 + content[place + 4 :]


def exchanged(content: bytes, one: bytes, other: bytes) -> bytes:
    """Returns the content with two of its parts, of equal length, in each other's place."""
    first, second = sorted(((content.index(one), one), (content.index(other), other)))
    size = len(one)
    between = content[first[0] + size : second[0]]
    return content[: first[0]] + second[1] + between + first[1] + content[second[0] + size :]
