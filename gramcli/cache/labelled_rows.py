"""Rows of the cache joined with what ``clips.csv`` says of them."""

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
"""Shards that are read and checked while the one before is worked on; each is in memory as it is on disk."""


def class_names(view: View, clips: ClipTable) -> tuple[str, ...]:
    """Returns the classes: the network's outputs, or with ``head = "none"`` the labels of training and validation."""
    labels = {clip.label for clip in clips.used("train", "validation")}
    return view.outputs or tuple(natural_sorted(labels))


def require_extracted(view: View, clips: Sequence[Clip]) -> None:
    """Raises an ArtefactError if some of the clips have no finished shard."""
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
    """Yields, shard by shard, its usable clips of those asked for, the shard, and their rows in it.

    The next shards are read meanwhile, in threads: most of reading is the checking of digests, which holds no lock.

    Raises:
        DamagedError: A row is not that of its clip.
    """
    for number, group, rows in _ahead(view, clip_table.by_shard(clips), layers, with_means):
        for clip in group:
            if clip.row is None or clip.row >= len(rows.keys) or rows.keys[clip.row] != clip.key:
                raise DamagedError(
                    f"{shown(view.path(number))}: row {clip.row} is not {shown(clip.id)}; "
                    f"delete clips.csv and run gramcli extract, which derives it again"
                )
        usable = rows.usable()
        good = [clip for clip in group if usable[clip.row]]
        yield good, rows, np.array([clip.row for clip in good], dtype=np.intp)
        done(len(group))


def _ahead(
    view: View, groups: Mapping[int, list[Clip]], layers: Sequence[str] | None, with_means: bool
) -> Iterator[tuple[int, list[Clip], Shard]]:
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
    """Returns these rows, and the array itself where they are all of it, as `read_rows` gives them."""
    return values if len(where) == len(values) else values[where]


def label_indices(clips: Sequence[Clip], index: Mapping[str, int]) -> npt.NDArray[np.intp]:
    """Returns the class of each clip, (N,).

    Raises:
        ArtefactError: A label is none of the classes; the first such clip is named.
    """
    try:
        return np.array([index[clip.label] for clip in clips], dtype=np.intp)
    except KeyError:
        clip = next(clip for clip in clips if clip.label not in index)
        label = f"label {shown(clip.label)} is none of the network's outputs" if clip.label else "has no label"
        raise ArtefactError(f"{shown(clip.id)}: {label}; mend the manifest and extract again") from None
