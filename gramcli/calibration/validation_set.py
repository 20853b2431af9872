"""The validation set: validation deviations, cross-fitting folds and the size correction that is learnt from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache.statistics import Statistics
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.fitting.cross_fitting import deal_parts
from gramcli.rule import class_size
from gramcli.rule.class_size import SizeCorrection
from gramcli.rule.fusion import evidence
from gramcli.rule.novelty import strangeness

MOST_NUMBERS = 1 << 23
"""Deviations (clips times layers times classes) that are in memory at once. A fit takes a dozen times their 32 MiB."""
LEAST_CLIPS = 500
"""Clips that are in memory at once, however many numbers that makes."""

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ValidationSet:
    """The N validation clips of classes that have training clips, in the order of their keys.

    Masks of clips are over the first n of them, n ≤ N.
    """

    statistics: Statistics
    layers: tuple[str, ...]
    """Layers that can be used, best first, L of them."""
    expected: npt.NDArray[np.float64]
    """E_l of these layers, as the statistics have it, (L,)."""
    columns: npt.NDArray[np.intp]
    """Classes that have training clips, (C,). Labels and columns of arrays count among them."""
    rows: npt.NDArray[np.intp]
    """Row of each clip in the statistics, (N,)."""
    labels: npt.NDArray[np.intp]
    """(N,)."""
    groups: Array
    """(N,)."""
    part_of: npt.NDArray[np.intp]
    """Part that each clip is held out with in cross-fitting, (N,)."""
    log_p: Array | None
    """Log-probabilities of the network, (N, C); None where its outputs are not the classes."""
    own: Array
    """δ against the clip's own class, (N, L)."""
    subsampled: Array | None
    """δ against subsamples of the clip's own class, (N, L, D); None where classes are of about equal size."""
    _learnt: dict[bytes, SizeCorrection] = field(default_factory=dict)

    @classmethod
    def read(cls, statistics: Statistics, layers: tuple[str, ...]) -> ValidationSet:
        """Reads what fits into memory for any number of classes, one layer at a time.

        Raises:
            ValueError: Fewer than two groups, so that nothing can be cross-fitted.
            DamagedError: The statistics hold numbers that are never written.
        """
        validation = statistics.validation
        columns = np.flatnonzero(statistics.counts > 0)
        rows = np.flatnonzero(np.isin(validation.labels, columns))
        labels = np.searchsorted(columns, validation.labels[rows])
        groups = validation.groups[rows]
        mapped = validation.logits.shape[1] == len(statistics.classes)
        own = [statistics.validation_deviations(layer)[rows, columns[labels]] for layer in layers]
        subsampled = None
        if statistics.subsample_sizes is not None:
            subsampled = np.stack([statistics.subsample_deviations(layer)[rows] for layer in layers], axis=1)
        return cls(
            statistics,
            layers,
            statistics.expected_of(layers),
            columns,
            rows,
            labels,
            groups,
            deal_parts(groups, labels),
            log_softmax(validation.logits[np.ix_(rows, columns)]) if mapped else None,
            np.stack(own, axis=1),
            subsampled,
        )

    @property
    def most(self) -> int:
        """Clips whose deviations from all classes are in memory at once, at most."""
        return max(LEAST_CLIPS, MOST_NUMBERS // (len(self.layers) * len(self.columns)))

    @property
    def everyone(self) -> Mask:
        """The mask of all clips, (N,)."""
        return np.ones(len(self.labels), bool)

    def deviations(self, first: int, stop: int) -> Array:
        """Reads δ of a range of clips, (stop - first, L, C)."""
        rows = self.rows[first:stop]
        stretch = slice(int(rows[0]), int(rows[-1]) + 1)
        place = np.ix_(rows - rows[0], self.columns)
        return np.stack([self.statistics.validation_deviations(layer, stretch)[place] for layer in self.layers], axis=1)

    def expected_from(self, clips: Mask) -> npt.NDArray[np.float64]:
        """Returns E_l of some clips, (L,); of the largest classes where classes differ in size."""
        if clips.sum() == len(self.labels):
            return self.expected
        sizes, counts = self.statistics.subsample_sizes, self.statistics.counts[self.columns]
        largest = np.ones(len(counts), bool) if sizes is None else counts >= sizes.max()
        where = np.flatnonzero(clips & largest[self.labels[: len(clips)]])
        if not len(where):
            return self.expected
        found = self.own[where].mean(axis=0, dtype=np.float64)
        # a layer whose bounds none of these clips leaves takes E_l of all clips
        return np.where(found > 0, found, self.expected)

    def correction_from(self, clips: Mask) -> SizeCorrection | None:
        """Returns the correction for class sizes that some clips show; None where classes are of about equal size."""
        sizes = self.statistics.subsample_sizes
        if self.subsampled is None or sizes is None:
            return None
        if (key := clips.tobytes()) not in self._learnt:  # every ridge is tried on the same parts
            where = np.flatnonzero(clips)
            shown = evidence(self.subsampled[where], self.expected_from(clips))
            counts = self.statistics.counts[self.columns]
            self._learnt[key] = class_size.learn(shown, self.labels[where], sizes[self.columns], counts)
        return self._learnt[key]

    def evidence_from(self, clips: Mask, deviations: Array) -> npt.NDArray[np.float64]:
        """Returns z of some deviations, with E_l and size correction learnt from the clips of a mask.

        Shape:
            - deviations, returns: (M, L, C)
        """
        return evidence(deviations, self.expected_from(clips), self.correction_from(clips))

    def strangeness(self) -> npt.NDArray[np.float64]:
        """Returns the strangeness of each clip, with E_l and size correction learnt without its part, (N,)."""
        found = np.empty(len(self.labels))
        for first in range(0, len(found), self.most):
            stop = min(first + self.most, len(found))
            deviations = self.deviations(first, stop)
            for part in np.unique(self.part_of[first:stop]).tolist():
                held = np.flatnonzero(self.part_of[first:stop] == part)
                found[first + held] = strangeness(self.evidence_from(self.part_of != part, deviations[held]))
        return found
