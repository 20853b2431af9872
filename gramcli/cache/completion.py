"""The record of a finished extract: with it, an unchanged rerun only looks at sizes and times of files.

``finished.safetensors`` holds the digest of manifest and settings, the audio files with sizes and modification times,
and the numbers of the shards. It is derived from manifest and cache: where it is missing, damaged or out of date,
extract compares the two row by row.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gramcli.cache import clip_table, sealed, sealed_writer
from gramcli.dataset.clip import Clip
from gramcli.errors import GramcliError

FILE = "finished.safetensors"

_PART = 20_000
"""Files that are compared at a time: the first part that has changed ends the comparison."""


@dataclass(frozen=True)
class Completion:
    """What a finished extract reported, so that a rerun can report it again."""

    clips: int
    """Clips that are in a split."""
    labels: tuple[str, ...]
    """Labels of those whose label is not held out, in natural order."""
    notes: tuple[str, ...]
    """Notes on the manifest and its clips, to be repeated."""


def write(cache: Path, source: str, completion: Completion, rows: Iterable[Clip], shards: Collection[int]) -> None:
    """Records that every clip of a manifest has its row. Nothing is written if the cache has no clip table.

    The tensors are path (bytes, uint8: the paths in UTF-8, separated by zero bytes), stat (files, 2) int64 with size in
    bytes and modification time in nanoseconds, and shard (shards,) int64.

    Args:
        cache: Folder of the cache.
        source: Digest of the manifest and of the settings that say how to read it.
        completion: What the extract found.
        rows: All clips, none of them failed.
        shards: Numbers of the shards that are there.

    Raises:
        ResourceError: It cannot be written.
    """
    table = clip_table.name(cache)
    if not table:
        return
    stats = {clip.path: (clip.bytes, clip.mtime_ns) for clip in rows if clip.split}
    names = "\0".join(stats).encode("utf-8", "surrogateescape")
    sealed_writer.write(
        cache / FILE,
        "finished",
        {
            "path": np.frombuffer(names, np.uint8),
            "stat": np.array(list(stats.values()), np.int64).reshape(-1, 2),
            "shard": np.array(sorted(shards), np.int64),
        },
        {
            "source": source,
            "table": table,
            "clips": completion.clips,
            "labels": list(completion.labels),
            "notes": list(completion.notes),
        },
        below=cache,
    )


def read(cache: Path, source: str, shards: Collection[int]) -> Completion | None:
    """Returns what a finished extract found; None if manifest, table, shards or audio files have changed since.

    A missing or damaged record is None too.

    Args:
        cache: Folder of the cache.
        source: As in `write`; nothing is finished if it is empty.
        shards: Numbers of the shards that are there now.
    """
    if not source:
        return None
    try:
        file = sealed.load(cache / FILE, "finished", below=cache)
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


def _unchanged(paths: Sequence[str], recorded: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> bool:
    if len(paths) != len(recorded):
        return False
    for first in range(0, len(paths), _PART):
        some = slice(first, first + _PART)
        try:
            # threads would not help: os.stat takes less time than the interpreter's lock takes to change hands
            current = [(status.st_size, status.st_mtime_ns) for status in map(os.stat, paths[some])]
        except (OSError, ValueError):
            return False
        if not np.array_equal(np.array(current, np.int64), recorded[some]):
            return False
    return True
