"""Subsample bounds: the bounds of large classes if they had fewer training clips. The size correction needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache.labelled_rows import read_rows
from gramcli.cache.view import View
from gramcli.calibration.size_limits import require_subsamples
from gramcli.dataset.clip import Clip
from gramcli.gram.bounds import Bounds
from gramcli.gram.descriptor import normalise
from gramcli.gram.deviation import deviations
from gramcli.progress import Progress
from gramcli.rule.subsample import clips_per_group, deal_subsamples, subsample_sizes

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class SubsampleBounds:
    """Bounds of every subsample. Their memory depends on the classes and the network, not on the number of clips."""

    sizes: npt.NDArray[np.int64]
    """Number of clips in each subsample, (C, D), from `subsample_sizes`."""
    first: npt.NDArray[np.intp]
    """Row of the bounds where the subsamples of each class begin, (C + 1,)."""
    bounds: Mapping[str, tuple[Array, Array]]
    """λ and Λ of all subsamples by layer, each (S, K_l)."""

    @classmethod
    def gather(
        cls,
        view: View,
        clips: Sequence[Clip],
        index: Mapping[str, int],
        groups: Array,
        progress: Progress,
    ) -> SubsampleBounds | None:
        """Computes the bounds from the training clips of larger classes; None if all classes are of about equal size.

        Args:
            view: View that holds the descriptors.
            clips: Usable training clips.
            index: Index of each label among the classes.
            groups: Number of groups of the training clips in each class, (C,).
            progress: Receives clips as they are read.

        Raises:
            DamagedError: A file of the cache is damaged.
            ResourceError: There are too many subsamples.
        """
        counts = np.bincount([index[clip.label] for clip in clips], minlength=len(index))
        sizes = subsample_sizes(counts)
        if not sizes.size:
            return None
        per_group = clips_per_group(counts, groups)
        first = np.concatenate([[0], np.count_nonzero(sizes, axis=1).cumsum()])
        rows_of: dict[str, Array] = {}
        of_class: dict[int, list[Clip]] = {}
        for clip in clips:
            of_class.setdefault(index[clip.label], []).append(clip)
        for c in np.flatnonzero(np.diff(first)).tolist():
            own = of_class[c]
            members = deal_subsamples([clip.key for clip in own], [clip.group for clip in own], sizes[c], per_group)
            rows_of |= {clip.key: first[c] + np.flatnonzero(row) for clip, row in zip(own, members, strict=True)}
        used = [clip for clip in clips if len(rows_of.get(clip.key, ()))]
        require_subsamples(len(index), int(first[-1]), sum(view.layers.values()))
        bounds = {layer: Bounds.empty(int(first[-1]), channels) for layer, channels in view.layers.items()}
        progress.start("bounds of smaller classes", len(used))
        for group, rows, where in read_rows(view, used, done=progress.advance):
            pairs = [(n, row) for n, clip in enumerate(group) for row in rows_of[clip.key]]
            sources, targets = np.array(pairs, np.intp).reshape(-1, 2).T
            for layer, bound in bounds.items():
                bound.update(normalise(rows.descriptors[layer][where])[sources], targets)
        return cls(sizes, first, {layer: (bound.lower, bound.upper) for layer, bound in bounds.items()})

    def deviations(self, layer: str, scaled: Array, labels: Array, epsilon: float) -> Array:
        """Returns δ of clips against each subsample of their own class; 0 if there is no such subsample.

        Shape:
            - scaled: (N, K)
            - labels: (N,)
            - returns: (N, D) float32
        """
        result = np.zeros((len(scaled), self.sizes.shape[1]), np.float32)
        lower, upper = self.bounds[layer]
        for c in np.unique(labels):
            rows = slice(self.first[c], self.first[c + 1])
            own = labels == c
            if rows.stop > rows.start:
                result[own, : rows.stop - rows.start] = deviations(scaled[own], lower[rows], upper[rows], epsilon)
        return result
