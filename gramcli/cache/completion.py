"""``finished.safetensors``: what a finished extract has seen, so that the next one soon knows that nothing is new.

It is derived and sealed. Where it is missing, damaged or out of date, extract compares manifest and cache row by row.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gramcli.cache import clip_table, regular_file, sealed
from gramcli.dataset.clip import Clip
from gramcli.errors import GramcliError

FILE = "finished.safetensors"

_PART = 20_000
"""Files that are looked at before they are compared."""


@dataclass(frozen=True)
class Completion:
    """What was there when the last clip was done."""

    clips: int
    labels: tuple[str, ...]
    """Of clips that are in a split and known, in natural order."""
    notes: tuple[str, ...]
    """What was said of the manifest and its clips."""


def write(
    cache: Path,
    source: str,
    rows: Sequence[Clip],
    labels: Sequence[str],
    notes: Sequence[str],
    shards: Collection[int],
) -> None:
    """Writes down that every clip of a manifest has its row.

    Args:
        cache: Folder of the cache.
        source: Names the manifest and the settings that say how to read it.
        rows: All clips, none of them failed.
        labels: See `Completion`.
        notes: See `Completion`.
        shards: Numbers of those that are there.

    Raises:
        ResourceError: It cannot be written.
    """
    used = [clip for clip in rows if clip.split]
    named = clip_table.name(cache)
    if not named:
        return
    about = {"source": source, "table": named, "clips": len(used)}
    seen = {clip.path: (clip.bytes, clip.mtime_ns) for clip in used}
    names = "\0".join(seen).encode("utf-8", "surrogateescape")
    sealed.write(
        cache / FILE,
        "finished",
        {
            "path": np.frombuffer(names, np.uint8),
            "stat": np.array(list(seen.values()), np.int64).reshape(-1, 2),
            "shard": np.array(sorted(shards), np.int64),
        },
        {**about, "labels": list(labels), "notes": list(notes)},
    )


def read(cache: Path, source: str, shards: Collection[int]) -> Completion | None:
    """Returns what was finished, if nothing has changed since that it depends on: manifest, table, shards, audio files.

    Args:
        cache: Folder of the cache.
        source: As in `write`; nothing is finished if it is empty.
        shards: Numbers of those that are there now.
    """
    if not source or not (cache / FILE).exists():
        return None
    try:
        regular_file.require_regular(cache / FILE)
        file = sealed.load(cache / FILE, "finished")
        about = file.about
        if (about["source"], about["table"]) != (source, clip_table.name(cache)):
            return None
        if not set(file["shard"].tolist()) <= set(shards):
            return None
        paths = file["path"].tobytes().decode("utf-8", "surrogateescape").split("\0")
        if not _unchanged(paths, file["stat"]):
            return None
        return Completion(about["clips"], tuple(about["labels"]), tuple(about["notes"]))
    except (GramcliError, KeyError, TypeError, ValueError):
        return None


def _unchanged(paths: Sequence[str], known: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> bool:
    if len(paths) != len(known):
        return False
    for first in range(0, len(paths), _PART):
        some = slice(first, first + _PART)
        try:
            # threads would wait for the interpreter's lock longer than for the system
            found = [(about.st_size, about.st_mtime_ns) for about in map(os.stat, paths[some])]
        except (OSError, ValueError):
            return False
        if not np.array_equal(np.array(found, np.int64), known[some]):
            return False
    return True
