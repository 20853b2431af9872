"""Cross-fitting: the clips of one split are dealt into parts, and each part is scored by a fit on the other parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

PARTS = 5
"""Number of parts, if there are as many groups."""


@dataclass(frozen=True, eq=False)
class LabelledClips:
    """The true classes of N clips, and the part with which each clip is held out."""

    labels: NDArray[np.integer]
    """True classes, (N,), 0 to C - 1."""
    part_of: NDArray[np.intp]
    """Part of each clip, (N,), as `deal_parts` deals them. A clip with -1, a training clip, is never held out."""
    classes: int
    """C. Some classes may have no clip."""

    def __post_init__(self) -> None:
        """Raises a ValueError if labels and parts do not fit, or if there are fewer than two parts."""
        if self.labels.shape != self.part_of.shape or not ((self.labels >= 0) & (self.labels < self.classes)).all():
            raise ValueError(f"expected one part and one label from 0 to {self.classes - 1} for each clip")
        if len(self.parts) < 2:
            raise ValueError("cross-fitting takes 2 parts of validation clips")

    @property
    def in_parts(self) -> NDArray[np.bool_]:
        """Which clips have a part, (N,)."""
        return self.part_of >= 0

    @property
    def parts(self) -> NDArray[np.intp]:
        """Numbers of the parts, ascending."""
        return np.unique(self.part_of[self.in_parts])


def deal_parts(groups: NDArray[Any], labels: NDArray[Any], count: int = PARTS) -> NDArray[np.intp]:
    """Deals whole groups into parts of about equal size. Each class is spread over as many parts as possible.

    The largest groups are dealt first. Each goes into the part with the fewest clips of the group's classes, and among
    equal parts into the one with the fewest clips. The names of groups matter only by their order.

    Args:
        groups: Group of each clip.
        labels: Class of each clip.
        count: Number of parts. There are never more parts than groups.

    Raises:
        ValueError: There are fewer than two groups, or shapes do not fit.

    Shape:
        - groups, labels: (N,)
        - returns: (N,), 0 to count - 1
    """
    if groups.shape != labels.shape or groups.ndim != 1:
        raise ValueError(f"groups of {groups.shape} do not fit labels of {labels.shape}")
    group_of, class_of = np.unique(groups, return_inverse=True)[1], np.unique(labels, return_inverse=True)[1]
    group_count = int(group_of.max(initial=-1)) + 1
    if group_count < 2:
        raise ValueError(f"cross-fitting takes 2 groups, and there are {group_count}")
    count = min(count, group_count)
    # each group has few of the classes, so the table of groups and classes is kept as a list of what is not 0
    pairs, clips_of_pair = np.unique(np.stack([group_of, class_of]), axis=1, return_counts=True)
    begin = np.searchsorted(pairs[0], np.arange(group_count + 1))
    clips_of_part = np.zeros((count, int(class_of.max()) + 1), np.int64)
    total_of_part = np.zeros(count, np.int64)
    part_of_group = np.empty(group_count, np.intp)
    size = np.bincount(group_of)
    for group in np.argsort(-size, kind="stable").tolist():
        own = slice(begin[group], begin[group + 1])
        classes, clips = pairs[1, own], clips_of_pair[own]
        part = np.lexsort((total_of_part, clips_of_part[:, classes].sum(axis=1)))[0]
        part_of_group[group] = part
        clips_of_part[part, classes] += clips
        total_of_part[part] += size[group]
    return np.unique(part_of_group, return_inverse=True)[1][group_of]


def cross_fit(part_of: NDArray[np.intp], fit_and_score: Callable[[Array, Array], Array]) -> Array:
    """Scores the clips of each part by a fit on the clips of all other parts.

    Args:
        part_of: Part of each clip.
        fit_and_score: Gets two masks, of the clips to fit on and of the clips to score, both (N,) bool. Returns the
            scores of the latter.

    Raises:
        ValueError: There are no clips.

    Shape:
        - part_of: (N,)
        - returns: (N, ...)
    """
    scores: Array | None = None
    for part in np.unique(part_of):
        held_out = part_of == part
        of_part = fit_and_score(~held_out, held_out)
        if scores is None:
            scores = np.empty((len(part_of), *of_part.shape[1:]), of_part.dtype)
        scores[held_out] = of_part
    if scores is None:
        raise ValueError("there are no clips")
    return scores
