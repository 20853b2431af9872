"""Validation clips for fitting a rule: their deviations, cross-fitting parts, E_l and size correction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.blocks import blocks
from gramcli.cache.statistics import Statistics
from gramcli.calibration.size_limits import PREFERRED_NUMBERS, clips_of_fit
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.fitting.cross_fitting import deal_parts
from gramcli.rule import class_size
from gramcli.rule.class_size import SizeCorrection
from gramcli.rule.fusion import evidence
from gramcli.rule.novelty import strangeness

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ValidationSet:
    """The N validation clips whose class has training clips, in the order of their keys.

    A mask of clips covers the first n of them, n ≤ N.
    """

    statistics: Statistics
    layers: tuple[str, ...]
    """The L layers that can be used, best first."""
    expected: npt.NDArray[np.float64]
    """E_l of these layers from the statistics, (L,)."""
    columns: npt.NDArray[np.intp]
    """The C classes that have training clips, (C,). Labels and columns of arrays are indices into them."""
    rows: npt.NDArray[np.intp]
    """Row of each clip in the statistics, (N,)."""
    labels: npt.NDArray[np.intp]
    """True class of each clip, (N,)."""
    groups: Array
    """Group of each clip, (N,)."""
    part_of: npt.NDArray[np.intp]
    """Part with which each clip is held out in cross-fitting, (N,)."""
    own_deviations: Array
    """δ against the clip's own class, (N, L)."""
    subsampled: Array | None
    """δ against subsamples of the clip's own class, (N, L, D); None if classes are of about equal size."""
    _corrections: dict[bytes, SizeCorrection] = field(default_factory=dict)
    """Size corrections that were fitted before, by mask."""

    @classmethod
    def read(cls, statistics: Statistics, layers: tuple[str, ...]) -> ValidationSet:
        """Reads the validation clips, except for their deviations from all classes; see `deviations`.

        Raises:
            ValueError: There are fewer than two groups, so nothing can be cross-fitted.
            DamagedError: The statistics hold numbers that calibrate never writes.
        """
        validation = statistics.validation
        columns = np.flatnonzero(statistics.counts > 0)
        rows = np.flatnonzero(np.isin(validation.labels, columns))
        labels = np.searchsorted(columns, validation.labels[rows])
        groups = validation.groups[rows]
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
            np.stack(own, axis=1),
            subsampled,
        )

    @property
    def most(self) -> int:
        """Largest number of clips that a rule is fitted on."""
        return clips_of_fit(len(self.layers), len(self.columns))

    @property
    def all_clips(self) -> Mask:
        """The mask of all clips, (N,)."""
        return np.ones(len(self.labels), bool)

    def log_p(self, count: int) -> Array | None:
        """Returns the network's log-probabilities of the first n clips, (n, C); None without such outputs."""
        logits = self.statistics.validation.logits
        if logits.shape[1] != len(self.statistics.classes):
            return None
        return log_softmax(logits[np.ix_(self.rows[:count], self.columns)])

    def deviations(self, first: int, stop: int) -> Array:
        """Reads δ of a range of clips, (stop - first, L, C)."""
        rows = self.rows[first:stop]
        stored = slice(int(rows[0]), int(rows[-1]) + 1)
        chosen = np.ix_(rows - rows[0], self.columns)
        result = np.empty((len(rows), len(self.layers), len(self.columns)), np.float32)
        for n, layer in enumerate(self.layers):
            result[:, n] = self.statistics.validation_deviations(layer, stored)[chosen]
        return result

    def expected_from(self, clips: Mask) -> npt.NDArray[np.float64]:
        """Returns E_l from the clips of a mask, (L,). If classes differ in size, only the largest classes count."""
        if clips.sum() == len(self.labels):
            return self.expected
        sizes, counts = self.statistics.subsample_sizes, self.statistics.counts[self.columns]
        largest = np.ones(len(counts), bool) if sizes is None else counts >= sizes.max()
        where = np.flatnonzero(clips & largest[self.labels[: len(clips)]])
        if not len(where):
            return self.expected
        expected = self.own_deviations[where].mean(axis=0, dtype=np.float64)
        # if all these clips are inside their bounds at a layer, E_l is that of all clips
        return np.where(expected > 0, expected, self.expected)

    def correction_from(self, clips: Mask) -> SizeCorrection | None:
        """Fits the size correction on the clips of a mask; None if classes are of about equal size."""
        sizes = self.statistics.subsample_sizes
        if self.subsampled is None or sizes is None:
            return None
        if (key := clips.tobytes()) not in self._corrections:  # all ridges are tried with the same masks
            where = np.flatnonzero(clips)
            z = evidence(self.subsampled[where], self.expected_from(clips))
            counts = self.statistics.counts[self.columns]
            self._corrections[key] = class_size.fit(z, self.labels[where], sizes[self.columns], counts)
        return self._corrections[key]

    def evidence_from(self, clips: Mask, deviations: Array) -> npt.NDArray[np.float64]:
        """Returns the evidence z of some deviations, with E_l and size correction from the clips of a mask.

        Shape:
            - deviations, returns: (M, L, C)
        """
        return evidence(deviations, self.expected_from(clips), self.correction_from(clips))

    def strangeness(self) -> npt.NDArray[np.float64]:
        """Returns the strangeness of each clip, with E_l and size correction from the other parts, (N,)."""
        result = np.empty(len(self.labels))
        for some in blocks(len(result), len(self.layers) * len(self.columns), PREFERRED_NUMBERS):
            deviations = self.deviations(some.start, some.stop)
            for part in np.unique(self.part_of[some]).tolist():
                held = np.flatnonzero(self.part_of[some] == part)
                result[some.start + held] = strangeness(self.evidence_from(self.part_of != part, deviations[held]))
        return result
