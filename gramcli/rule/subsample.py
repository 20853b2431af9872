"""Subsamples of the training clips of large classes, to estimate how class size affects the bounds."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

SAME_SIZE = 1.2
"""Class sizes that differ by less than this factor count as equal."""
MAX_SIZES = 6
"""Largest number of subsample sizes. Between these sizes the correction is interpolated."""
DRAWS = 20
"""Number of subsamples of one size, over all classes that have enough clips. Each of these classes has at least one."""


def class_sizes(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """Chooses the sizes of subsamples among the sizes of the classes, ascending, starting with the smallest class.

    Of sizes that count as equal the smallest is taken, so that all these classes are large enough for it.

    Args:
        counts: Training clips by class, (C,). Classes without clips are ignored.

    Returns:
        (J,). It is empty if all classes are of about equal size, because then no correction is needed.
    """
    distinct: list[int] = []
    for size in np.unique(counts[counts > 0]).tolist():
        if not distinct or size >= SAME_SIZE * distinct[-1]:
            distinct.append(size)
    if len(distinct) < 2:
        return np.zeros(0, np.int64)
    sizes = np.array(distinct, np.int64)
    targets = np.log(np.geomspace(sizes[0], sizes[-1], MAX_SIZES))
    nearest = np.abs(np.log(sizes) - targets[:, None]).argmin(axis=1)
    return sizes if len(sizes) <= MAX_SIZES else sizes[np.unique(nearest)]


def subsample_sizes(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """Returns the size of every subsample of every class.

    A class of n clips has ⌊n/s⌋ subsamples of size s, which have no clip in common. If several classes are large enough
    for this size, each has fewer; see `DRAWS`. Classes of the smallest size have no subsamples.

    Args:
        counts: Training clips by class, (C,).

    Returns:
        (C, D), ascending in each row. Rows of classes with fewer than D subsamples end with zeros. D is 0 if all
        classes are of about equal size.
    """
    sizes = class_sizes(counts)
    rows: list[list[int]] = [[] for _ in counts]
    most = {size: max(1, DRAWS // int((counts >= max(size, sizes[1])).sum())) for size in sizes.tolist()}
    for row, count in zip(rows, counts.tolist(), strict=True):
        for size in sizes.tolist() if len(sizes) and count >= sizes[1] else []:
            row += [size] * min(count // size, most[size])
    table = np.zeros((len(rows), max(map(len, rows), default=0)), np.int64)
    for padded, row in zip(table, rows, strict=True):
        padded[: len(row)] = row
    return table


def clips_per_group(counts: NDArray[np.integer], groups: NDArray[np.integer]) -> dict[int, int]:
    """Returns the mean number of clips per group in the classes of each size, rounded.

    Clips of one group, windows of one recording for instance, are similar. So bounds from 20 windows of 2 recordings
    are narrower than bounds from 20 recordings. A subsample must have about as many groups as a class of its size.

    Args:
        counts: Training clips by class.
        groups: Groups that these clips are from, by class.

    Shape:
        - counts, groups: (C,)
    """
    present = counts > 0
    ratio = counts[present] / groups[present]
    per_group = {}
    for size in class_sizes(counts).tolist():
        of_size = (counts[present] >= size) & (counts[present] < SAME_SIZE * size)
        per_group[size] = max(1, round(float(ratio[of_size].mean())))
    return per_group


def deal_subsamples(
    keys: Sequence[str], groups: Sequence[str], sizes: NDArray[np.int64], per_group: Mapping[int, int]
) -> NDArray[np.bool_]:
    """Deals the clips of one class into its subsamples.

    Clips are sorted so that up to `per_group` clips of a group are neighbours, and each subsample is a run of this
    order. Sorting is by SHA-256 digests, so the result depends neither on the order of the clips nor on a random
    generator.

    Args:
        keys: Key of each clip.
        groups: Group of each clip.
        sizes: Sizes of the subsamples, one row of `subsample_sizes`.
        per_group: Clips per group by size, from `clips_per_group`.

    Shape:
        - keys, groups: (N,)
        - sizes: (D,)
        - returns: (N, D), whether a clip is in a subsample
    """
    members = np.zeros((len(keys), len(sizes)), bool)
    for size in np.unique(sizes[sizes > 0]).tolist():
        shuffled = sorted(range(len(keys)), key=lambda n: _digest(size, keys[n]))
        in_group: Counter[str] = Counter()
        block = {}
        for n in shuffled:
            block[n] = _digest(size, groups[n], in_group[groups[n]] // per_group[size])
            in_group[groups[n]] += 1
        order = np.array(sorted(shuffled, key=block.__getitem__), np.intp)
        for draw, column in enumerate(np.flatnonzero(sizes == size)):
            members[order[draw * size : (draw + 1) * size], column] = True
    return members


def _digest(*values: object) -> bytes:
    return hashlib.sha256(repr(values).encode("utf-8", "surrogatepass")).digest()
