"""Rows of the shards joined with their clips from ``clips.csv``: labels, splits and groups."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from gramcli.cache import clip_table
from gramcli.cache.clip_table import ClipTable
from gramcli.cache.shard import Shard
from gramcli.cache.view import View
from gramcli.dataset.clip import Clip
from gramcli.errors import ArtefactError, DamagedError
from gramcli.text import natural_sorted, shown

AHEAD = 2
"""Number of shards that are read ahead, in threads. Each is in memory in the size that it has on disk."""


def class_names(view: View, clips: ClipTable) -> tuple[str, ...]:
    """Returns the classes: the network's outputs, or with ``head = "none"`` the labels of training and validation."""
    labels = {clip.label for clip in clips.used("train", "validation")}
    return view.outputs or tuple(natural_sorted(labels))


def require_extracted(view: View, clips: Sequence[Clip]) -> None:
    """Raises an ArtefactError if the shards of some clips are not finished."""
    present = view.present()
    missing = sum(clip.shard not in present for clip in clips)
    if missing:
        raise ArtefactError(f"{shown(view.folder)}: {missing} clips are not extracted yet; run gramcli extract again")


def read_rows(
    view: View,
    clips: Sequence[Clip],
    layers: Sequence[str] | None = None,
    done: Callable[[int], None] = lambda n: None,
    *,
    with_means: bool = False,
) -> Iterator[tuple[list[Clip], Shard, npt.NDArray[np.intp]]]:
    """Yields for each shard the usable ones of the given clips, the shard, and the rows of these clips in it.

    The next shards are read ahead in threads. Most of this time goes into digests, which do not hold the interpreter's
    lock.

    Args:
        view: View that holds the clips.
        clips: Clips that have a row.
        layers: Layers to read; all if None.
        done: Called with the number of clips of each shard, failed ones included.
        with_means: Whether to read channel means as well.

    Raises:
        DamagedError: A shard is damaged, or a row is not that of its clip.
    """
    for number, group, rows in _ahead(view, clip_table.by_shard(clips), layers, with_means):
        for clip in group:
            if clip.row is None or clip.row >= len(rows.keys) or rows.keys[clip.row] != clip.key:
                raise DamagedError(
                    f"{shown(view.path(number))}: row {clip.row} is not {shown(clip.id)}; "
                    f"delete clips.csv and run gramcli extract, which writes it again"
                )
        usable = rows.usable()
        kept = [clip for clip in group if usable[clip.row]]
        yield kept, rows, np.array([clip.row for clip in kept], dtype=np.intp)
        done(len(group))


def _ahead(
    view: View, groups: Mapping[int, list[Clip]], layers: Sequence[str] | None, with_means: bool
) -> Iterator[tuple[int, list[Clip], Shard]]:
    """Yields shards with their numbers and clips, in order. The next `AHEAD` shards are being read meanwhile."""
    waiting: deque[tuple[int, list[Clip], Future[Shard]]] = deque()
    pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="gramcli shards")
    try:
        for number, group in groups.items():
            waiting.append((number, group, pool.submit(view.read, number, layers, with_means=with_means)))
            if len(waiting) > AHEAD:
                first, clips, rows = waiting.popleft()
                yield first, clips, rows.result()
        for first, clips, rows in waiting:
            yield first, clips, rows.result()
    finally:
        pool.shutdown(cancel_futures=True)


def take_rows(values: npt.NDArray[np.float32], where: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
    """Returns some rows of an array. If they are all rows, it returns the array itself, to save a copy."""
    return values if len(where) == len(values) else values[where]


def label_indices(clips: Sequence[Clip], index: Mapping[str, int]) -> npt.NDArray[np.intp]:
    """Returns the class of each clip, (N,).

    Raises:
        ArtefactError: A label is not one of the classes. The message names the first such clip.
    """
    try:
        return np.array([index[clip.label] for clip in clips], dtype=np.intp)
    except KeyError:
        clip = next(clip for clip in clips if clip.label not in index)
        fault = f"label {shown(clip.label)} is none of the network's outputs" if clip.label else "has no label"
        raise ArtefactError(f"{shown(clip.id)}: {fault}; correct the manifest and run gramcli extract again") from None
