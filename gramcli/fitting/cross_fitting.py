"""Cross-fitting inside one split: what is fitted on some groups of clips scores the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

PARTS = 5


def deal_parts(groups: NDArray[Any], labels: NDArray[Any], count: int = PARTS) -> NDArray[np.intp]:
    """Deals whole groups into parts of about equal size, every class spread over as many parts as it can be.

    The largest groups go first, each into the part that has the fewest clips of its classes, then the fewest at all.
    Names of groups do not matter beyond their order.

    Args:
        groups: Source of each clip.
        labels: Class of each clip.
        count: Parts wanted; there are no more than groups.

    Raises:
        ValueError: Fewer than two groups, or shapes do not fit.

    Shape:
        - groups, labels: (N,)
        - returns: (N,), 0 to count - 1
    """
    if groups.shape != labels.shape or groups.ndim != 1:
        raise ValueError(f"groups of {groups.shape} do not fit labels of {labels.shape}")
    group_of, class_of = np.unique(groups, return_inverse=True)[1], np.unique(labels, return_inverse=True)[1]
    found = int(group_of.max(initial=-1)) + 1
    if found < 2:
        raise ValueError(f"cross-fitting takes 2 groups, and there are {found}")
    count = min(count, found)
    held = np.zeros((found, int(class_of.max()) + 1))
    np.add.at(held, (group_of, class_of), 1)
    filled = np.zeros((count, held.shape[1]))
    home = np.empty(found, np.intp)
    for group in np.argsort(-held.sum(axis=1), kind="stable"):
        own = filled[:, held[group] > 0].sum(axis=1)
        home[group] = np.lexsort((filled.sum(axis=1), own))[0]
        filled[home[group]] += held[group]
    return np.unique(home, return_inverse=True)[1][group_of]


def cross_fit(part_of: NDArray[np.intp], fit_and_score: Callable[[Array, Array], Array]) -> Array:
    """Returns the scores that every clip gets from what was fitted without its part.

    Args:
        part_of: Part of each clip.
        fit_and_score: Takes which clips to fit on and which to score, both (N,) bool, and returns the latter's scores.

    Shape:
        - part_of: (N,)
        - returns: (N, ...)
    """
    whole: Array | None = None
    for part in np.unique(part_of):
        held_out = part_of == part
        scores = fit_and_score(~held_out, held_out)
        if whole is None:
            whole = np.empty((len(part_of), *scores.shape[1:]), scores.dtype)
        whole[held_out] = scores
    if whole is None:
        raise ValueError("there are no clips")
    return whole
