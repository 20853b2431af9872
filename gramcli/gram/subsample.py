"""Which training clips stand for a smaller class, where classes differ in size."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

APART = 1.2
"""Sizes that differ by less than this factor count as equal."""
SIZES = 6
"""Sizes looked at, at most; between them a class's evidence is interpolated."""
DRAWS = 20
"""Subsamples of one size over all classes, as far as there are enough clips; every class large enough has one."""


def sizes(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """Returns the class sizes to look at: some of those that occur, ascending, the smallest and the largest included.

    Args:
        counts: Training clips by class, (C,); classes without clips do not count.

    Returns:
        (J,); empty where all classes are of about equal size, so that nothing needs to be done.
    """
    found = np.unique(counts[counts > 0]).astype(np.int64)
    if len(found) < 2 or found[-1] < APART * found[0]:
        return found[:0]
    apart = [found[-1]]
    for size in found[-2:0:-1]:
        if apart[-1] >= APART * size and size >= APART * found[0]:
            apart.append(size)
    kept = np.array([found[0], *apart[::-1]])
    wanted = np.log(np.geomspace(kept[0], kept[-1], SIZES))
    nearest = np.abs(np.log(kept) - wanted[:, None]).argmin(axis=1)
    return kept if len(kept) <= SIZES else kept[np.unique(nearest)]


def plan(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """Returns the size of every subsample of every class.

    A class of n clips has ⌊n/s⌋ subsamples of size s without a clip in common, or fewer where several classes are large
    enough. Classes of the smallest size have none, as nothing smaller occurs.

    Args:
        counts: Training clips by class, (C,).

    Returns:
        (C, D), ascending; places of classes that have fewer than D subsamples hold 0 at the end. D is 0 where all
        classes are of about equal size.
    """
    looked_at = sizes(counts)
    rows: list[list[int]] = [[] for _ in counts]
    for row, count in zip(rows, counts.tolist(), strict=True):
        for size in looked_at.tolist() if len(looked_at) and count >= looked_at[1] else []:
            most = DRAWS // int((counts >= max(size, looked_at[1])).sum())
            row += [size] * min(count // size, max(1, most))
    table = np.zeros((len(rows), max(map(len, rows), default=0)), np.int64)
    for place, row in zip(table, rows, strict=True):
        place[: len(row)] = row
    return table


def deal(keys: Sequence[str], groups: Sequence[str], wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns which clips of a class are in which of its subsamples.

    Whole groups follow one another, as clips of one recording are alike and a small class has few recordings too. The
    order is that of SHA-256 digests, so it depends neither on the order of the clips nor on a generator.

    Args:
        keys: What names each clip for good.
        groups: Source of each clip.
        wanted: Sizes of the subsamples, as a row of `plan`, (D,).

    Shape:
        - keys, groups: (N,)
        - returns: (N, D)
    """
    chosen = np.zeros((len(keys), len(wanted)), bool)
    for size in np.unique(wanted[wanted > 0]).tolist():

        def place(n: int, size: int = size) -> tuple[bytes, bytes]:
            return _digest(size, groups[n]), _digest(size, keys[n])

        order = np.array(sorted(range(len(keys)), key=place), np.intp)
        for draw, column in enumerate(np.flatnonzero(wanted == size)):
            chosen[order[draw * size : (draw + 1) * size], column] = True
    return chosen


def _digest(size: int, name: str) -> bytes:
    return hashlib.sha256(f"{size} {name}".encode("utf-8", "surrogatepass")).digest()
