"""A clip, one labelled window of an audio file; the names of the splits; and a function that thins out many clips."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

SPLITS = ("train", "validation", "test")
"""Splits of clips whose label is one of the classes, in the order in which they get their rows."""
UNKNOWN = "unknown"
"""Split of test clips whose label was held out, so that they belong to no class."""


class Clip(NamedTuple):
    """One window of audio and where its descriptor is stored.

    A tuple, as there may be a million of them.
    """

    id: str
    """Path relative to the audio root, with ``@start-end`` where it is a part of the file."""
    key: str
    """SHA-256 that identifies the audio; see `window_key`. Empty if the file could not be read."""
    source: str
    """Id of the row of the manifest that it was cut from."""
    path: str
    """The audio file."""
    bytes: int
    """Size of the file."""
    mtime_ns: int
    """When the file was last changed, in nanoseconds since 1970."""
    start: float | None
    """Seconds from the start of the file; None for the whole file."""
    end: float | None
    """In seconds; None for the whole file."""
    label: str
    """Empty if unlabelled."""
    split: str
    """train, validation, test, unknown; empty if the manifest no longer lists it, or if its label is held out."""
    group: str
    """Clips of one group share a split."""
    shard: int | None
    """Number of the shard that holds its descriptor; None if the file could not be read."""
    row: int | None
    """Row in that shard."""
    error: str = ""
    """Why the file could not be read."""
    parent_digest: str = ""
    """SHA-256 of the bytes of the file that this is a part of.

    Empty for a whole file, whose key it is, and in tables written before it was kept.
    """

    @property
    def part(self) -> tuple[float, float] | None:
        """Start and end in seconds; None for the whole file."""
        return None if self.start is None or self.end is None else (self.start, self.end)

    @property
    def file_digest(self) -> str:
        """SHA-256 of the bytes of the audio file; empty where only hashing the file can tell."""
        return self.key if self.part is None else self.parent_digest


def window_key(digest: str, part: tuple[float, float] | None) -> str:
    """Returns the SHA-256 that identifies a window, wherever its file lies and whatever it is called.

    Args:
        digest: SHA-256 of the file's bytes; the key of the whole file.
        part: Start and end in seconds; None for the whole file.
    """
    return digest if part is None else hashlib.sha256(f"{digest}@{part[0]:.6f}-{part[1]:.6f}".encode()).hexdigest()


def sample_clips(clips: Sequence[Clip], most: int) -> list[Clip]:
    """Returns about `most` of many clips, in which every label of every split has its share; all if there are no more.

    Keys are digests, so the first clips by their keys are as good as drawn.

    Args:
        clips: In order of their keys.
        most: Number of clips wanted. Every label keeps at least one clip of each split, so there may be a few more.

    Raises:
        ValueError: `most` is below 1.
    """
    if most < 1:
        raise ValueError(f"at least one clip must be asked for, not {most}")
    sizes = Counter((clip.split, clip.label) for clip in clips)
    left = {which: max(1, round(min(1.0, most / len(clips)) * size)) for which, size in sizes.items()}
    chosen = []
    for clip in clips:
        if left[clip.split, clip.label] > 0:
            left[clip.split, clip.label] -= 1
            chosen.append(clip)
    return chosen
