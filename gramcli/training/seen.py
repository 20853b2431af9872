"""Which audio a network has seen, as its checkpoint says, and whether other clips are among it.

Files are known by their content. Where a file was cut into windows, its stretches are kept beside the windows' keys,
so that other windows of the same seconds are found too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gramcli.cache.clips import Clip
from gramcli.errors import ArtefactError, UsageError, shown

Stretches = dict[str, list[tuple[float, float]]]
"""Start and end in seconds, by the SHA-256 of a file."""


@dataclass(frozen=True)
class Audio:
    """A set of audio."""

    keys: tuple[str, ...] = ()
    """Of its windows; that of a whole file is the SHA-256 of the file."""
    stretches: Stretches = field(default_factory=dict)
    """Of the files that were cut."""

    @classmethod
    def of(cls, clips: Iterable[Clip]) -> Audio:
        """Takes clips together; files that were cut are read for their digest."""
        keys: set[str] = set()
        cut: Stretches = {}
        digests: dict[str, str] = {}
        for clip in clips:
            keys.add(clip.key)
            if clip.start is not None and clip.end is not None:
                cut.setdefault(_file(clip, digests), []).append((clip.start, clip.end))
        return cls(tuple(sorted(keys)), {digest: _merged(spans) for digest, spans in sorted(cut.items())})

    def as_json(self) -> dict[str, Any]:
        """Returns it for the metadata of a checkpoint: ``keys``, and ``stretches`` where files were cut."""
        return {"keys": list(self.keys), **({"stretches": self.stretches} if self.stretches else {})}

    @property
    def empty(self) -> bool:
        """Whether there is none."""
        return not self.keys


def trained_on(metadata: Mapping[str, Any], path: Path) -> Audio:
    """Returns the training audio that a checkpoint's metadata names; none where it names none.

    Raises:
        ArtefactError: The metadata cannot be understood.
    """
    try:
        keys = metadata.get("trained_on", [])
        stretches = metadata.get("trained_stretches", {})
        return Audio(
            tuple(str(key) for key in keys),
            {str(digest): [(float(start), float(end)) for start, end in spans] for digest, spans in stretches.items()},
        )
    except (TypeError, ValueError, AttributeError):
        raise ArtefactError(f"{shown(path)}: its gramcli metadata says nothing clear of its training clips") from None


def check_unseen(clips: Sequence[Clip], seen: Audio, path: Path) -> None:
    """Refuses clips of validation and test that the network was trained on, in whatever windows.

    Args:
        clips: Of all splits; those of the training split may have been seen.
        seen: What the network was trained on.
        path: The checkpoint, for the message.

    Raises:
        UsageError: Naming the first such clip.
    """
    if seen.empty:
        return
    keys = set(seen.keys)
    digests: dict[str, str] = {}
    for clip in clips:
        if clip.split in ("validation", "test") and clip.key and _overlaps(clip, keys, seen.stretches, digests):
            raise UsageError(
                f"{shown(clip.id)}: is in the {clip.split} split, but {shown(path.name)} was trained on it; "
                "use the splits or folds of that training, or a network trained without it"
            )


def _overlaps(clip: Clip, keys: set[str], stretches: Stretches, digests: dict[str, str]) -> bool:
    if clip.key in keys or clip.key in stretches:
        return True
    if clip.start is None or clip.end is None:
        return False
    digest = _file(clip, digests)
    return digest in keys or any(start < clip.end and clip.start < end for start, end in stretches.get(digest, ()))


def _file(clip: Clip, digests: dict[str, str]) -> str:
    """Returns the SHA-256 of a clip's file; "" where it can no longer be read, which decoding will say."""
    if clip.path not in digests:
        try:
            with Path(clip.path).open("rb") as file:
                digests[clip.path] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            digests[clip.path] = ""
    return digests[clip.path]


def _merged(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Joins stretches that touch or overlap."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
