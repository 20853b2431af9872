"""Which training clips stand for a smaller class, where classes differ in size."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

APART = 1.2
"""Sizes that differ by less than this factor count as equal."""
SIZES = 6
"""Sizes looked at, at most; between them a class's evidence is interpolated."""
DRAWS = 20
"""Subsamples of one size over all classes, as far as there are enough clips; every class large enough has one."""


def class_sizes(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """Returns the class sizes to look at: some of those that occur, ascending, from the smallest on.

    Of sizes that count as equal it is the smallest, so that all these classes can speak for it.

    Args:
        counts: Training clips by class, (C,); classes without clips do not count.

    Returns:
        (J,); empty where all classes are of about equal size, so that nothing needs to be done.
    """
    apart: list[int] = []
    for size in np.unique(counts[counts > 0]).tolist():
        if not apart or size >= APART * apart[-1]:
            apart.append(size)
    if len(apart) < 2:
        return np.zeros(0, np.int64)
    kept = np.array(apart, np.int64)
    wanted = np.log(np.geomspace(kept[0], kept[-1], SIZES))
    nearest = np.abs(np.log(kept) - wanted[:, None]).argmin(axis=1)
    return kept if len(kept) <= SIZES else kept[np.unique(nearest)]


def subsample_sizes(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """Returns the size of every subsample of every class.

    A class of n clips has ⌊n/s⌋ subsamples of size s without a clip in common, or fewer where several classes are large
    enough. Classes of the smallest size have none, as there is nothing smaller to stand for.

    Args:
        counts: Training clips by class, (C,).

    Returns:
        (C, D), ascending; places of classes that have fewer than D subsamples hold 0 at the end. D is 0 where all
        classes are of about equal size.
    """
    looked_at = class_sizes(counts)
    rows: list[list[int]] = [[] for _ in counts]
    for row, count in zip(rows, counts.tolist(), strict=True):
        for size in looked_at.tolist() if len(looked_at) and count >= looked_at[1] else []:
            most = DRAWS // int((counts >= max(size, looked_at[1])).sum())
            row += [size] * min(count // size, max(1, most))
    table = np.zeros((len(rows), max(map(len, rows), default=0)), np.int64)
    for place, row in zip(table, rows, strict=True):
        place[: len(row)] = row
    return table


def clips_per_group(counts: NDArray[np.integer], groups: NDArray[np.integer]) -> dict[int, int]:
    """Returns how many clips of one recording the classes of each size have, as a whole number.

    Clips of one recording are alike, so bounds from 20 windows of 2 recordings are narrower than those from 20
    recordings. Subsamples that stand for a small class are to have as many recordings as it has.

    Args:
        counts: Training clips by class.
        groups: Recordings they are from, by class.

    Shape:
        - counts, groups: (C,)
    """
    there = counts > 0
    ratio = counts[there] / groups[there]
    found = {}
    for size in class_sizes(counts).tolist():
        alike = (counts[there] >= size) & (counts[there] < APART * size)
        found[size] = max(1, round(float(ratio[alike].mean())))
    return found


def deal_subsamples(
    keys: Sequence[str], groups: Sequence[str], wanted: NDArray[np.int64], per_group: Mapping[int, int]
) -> NDArray[np.bool_]:
    """Returns which clips of a class are in which of its subsamples.

    Clips of one group follow one another, as many as `per_group` says, the rest of them elsewhere. The order is that of
    SHA-256 digests, so it depends neither on the order of the clips nor on a generator.

    Args:
        keys: What names each clip for good.
        groups: Source of each clip.
        wanted: Sizes of the subsamples, as a row of `subsample_sizes`.
        per_group: Clips of one group by size, as `clips_per_group` gives them.

    Shape:
        - keys, groups: (N,)
        - wanted: (D,)
        - returns: (N, D)
    """
    chosen = np.zeros((len(keys), len(wanted)), bool)
    for size in np.unique(wanted[wanted > 0]).tolist():
        shuffled = sorted(range(len(keys)), key=lambda n: _digest(size, keys[n]))
        seen: Counter[str] = Counter()
        block = {}
        for n in shuffled:
            block[n] = _digest(size, groups[n], seen[groups[n]] // per_group[size])
            seen[groups[n]] += 1
        order = np.array(sorted(shuffled, key=block.__getitem__), np.intp)
        for draw, column in enumerate(np.flatnonzero(wanted == size)):
            chosen[order[draw * size : (draw + 1) * size], column] = True
    return chosen


def _digest(*what: object) -> bytes:
    return hashlib.sha256(repr(what).encode("utf-8", "surrogatepass")).digest()
