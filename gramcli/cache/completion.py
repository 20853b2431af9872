"""``finished.safetensors``: what a finished extract found, so that the next one can tell at once that nothing is new.

The file is derived from manifest and cache. Where it is missing, damaged or out of date, extract compares the two row
by row.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
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
    """What an extract had found when it was finished."""

    clips: int
    """Clips that are in a split."""
    labels: tuple[str, ...]
    """Labels of the known ones among them, in natural order."""
    notes: tuple[str, ...]
    """Notes on the manifest and its clips, to be repeated."""


def write(cache: Path, source: str, finished: Completion, rows: Iterable[Clip], shards: Collection[int]) -> None:
    """Records that every clip of a manifest has its row.

    Args:
        cache: Folder of the cache.
        source: Digest of the manifest and of the settings that say how to read it.
        finished: What the extract found.
        rows: All clips, none of them failed.
        shards: Numbers of the shards that are there.

    Raises:
        ResourceError: It cannot be written.
    """
    table = clip_table.name(cache)
    if not table:
        return
    seen = {clip.path: (clip.bytes, clip.mtime_ns) for clip in rows if clip.split}
    names = "\0".join(seen).encode("utf-8", "surrogateescape")
    sealed.write(
        cache / FILE,
        "finished",
        {
            "path": np.frombuffer(names, np.uint8),
            "stat": np.array(list(seen.values()), np.int64).reshape(-1, 2),
            "shard": np.array(sorted(shards), np.int64),
        },
        {
            "source": source,
            "table": table,
            "clips": finished.clips,
            "labels": list(finished.labels),
            "notes": list(finished.notes),
        },
    )


def read(cache: Path, source: str, shards: Collection[int]) -> Completion | None:
    """Returns what a finished extract had found, unless manifest, table, shards or audio files have changed since.

    Args:
        cache: Folder of the cache.
        source: As in `write`; nothing is finished if it is empty.
        shards: Numbers of the shards that are there now.
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
            found = [(status.st_size, status.st_mtime_ns) for status in map(os.stat, paths[some])]
        except (OSError, ValueError):
            return False
        if not np.array_equal(np.array(found, np.int64), known[some]):
            return False
    return True
