"""Validation clips as what is fitted on them sees them: deviations, what is usual of them, and what class size does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache.statistics import Statistics
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.fitting.cross_fitting import deal_parts
from gramcli.rule import class_size, fusion
from gramcli.rule.class_size import SizeCorrection
from gramcli.rule.novelty import strangeness

MOST_NUMBERS = 1 << 23
"""Deviations, clips by layers by classes, that are in memory at once: a fit takes a dozen times their 32 MiB."""
LEAST_CLIPS = 500
"""Clips that are, however many numbers that makes."""

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ValidationSet:
    """The N validation clips of classes that have training clips, in the order of their keys.

    Arguments `clips` are masks of the first n of them, n ≤ N.
    """

    known: Statistics
    order: tuple[str, ...]
    """Layers, best first."""
    columns: npt.NDArray[np.intp]
    """Classes that have training clips, (C,); all that follows counts among them."""
    rows: npt.NDArray[np.intp]
    """Place of each clip in the statistics, (N,)."""
    labels: npt.NDArray[np.intp]
    groups: Array
    part_of: npt.NDArray[np.intp]
    log_p: Array | None
    """Log-probabilities of the network, (N, C), if its outputs are the classes."""
    own: Array
    """δ against the clip's own class, (N, L)."""
    parted: Array | None
    """δ against subsamples of it, (N, L, D), where classes differ in size."""
    _learnt: dict[bytes, SizeCorrection] = field(default_factory=dict)

    @classmethod
    def read(cls, known: Statistics, order: tuple[str, ...]) -> ValidationSet:
        """Reads what memory holds for any number of classes.

        Raises:
            ValueError: Fewer than two groups, so that nothing can be cross-fitted.
        """
        columns = np.flatnonzero(known.counts > 0)
        rows = np.flatnonzero(np.isin(known.validation_labels, columns))
        labels = np.searchsorted(columns, known.validation_labels[rows])
        groups = known.file["validation/group"][rows]
        logits = known.validation_logits
        mapped = logits.shape[1] == len(known.classes)
        sizes = known.subsample_sizes
        # one layer at a time: the file may be larger than memory
        return cls(
            known,
            order,
            columns,
            rows,
            labels,
            groups,
            deal_parts(groups, labels),
            log_softmax(logits[np.ix_(rows, columns)]) if mapped else None,
            np.stack([known.validation_deviations(layer)[rows, columns[labels]] for layer in order], axis=1),
            None if sizes is None else np.stack([known.subsample_deviations(layer)[rows] for layer in order], axis=1),
        )

    @property
    def whole(self) -> npt.NDArray[np.float64]:
        """E_l of the statistics, (L,)."""
        index = {layer: n for n, layer in enumerate(self.known.layers)}
        found: npt.NDArray[np.float64] = self.known.expected[[index[layer] for layer in self.order]]
        return found

    @property
    def most(self) -> int:
        """Clips whose deviations from all classes are in memory at once, at most."""
        return max(LEAST_CLIPS, MOST_NUMBERS // (len(self.order) * len(self.columns)))

    def deviations(self, first: int, stop: int) -> Array:
        """Returns δ of some clips, (stop - first, L, C)."""
        rows = self.rows[first:stop]
        stretch = slice(int(rows[0]), int(rows[-1]) + 1)
        place = np.ix_(rows - rows[0], self.columns)
        return np.stack([self.known.validation_deviations(layer, stretch)[place] for layer in self.order], axis=1)

    def expect(self, clips: Mask) -> npt.NDArray[np.float64]:
        """Returns E_l as some clips show it, of the largest classes where they differ in size."""
        sizes, counts = self.known.subsample_sizes, self.known.counts[self.columns]
        largest = np.ones(len(counts), bool) if sizes is None else counts >= sizes.max()
        where = np.flatnonzero(clips & largest[self.labels[: len(clips)]])
        if not len(where):
            return self.whole
        found = self.own[where].mean(axis=0, dtype=np.float64)
        # a layer whose bounds none of these clips leaves has to be measured with the others
        return np.where(found > 0, found, self.whole)

    def level(self, clips: Mask, expected: npt.NDArray[np.float64]) -> SizeCorrection | None:
        """Returns what brings classes to one size, as some clips show it; None where they are of one size."""
        if self.parted is None or (sizes := self.known.subsample_sizes) is None:
            return None
        if (key := clips.tobytes()) not in self._learnt:  # every ridge is tried on the same parts
            where = np.flatnonzero(clips)
            spoken = fusion.evidence(self.parted[where], expected)
            counts = self.known.counts[self.columns]
            self._learnt[key] = class_size.learn(spoken, self.labels[where], sizes[self.columns], counts)
        return self._learnt[key]

    def strangeness(self) -> npt.NDArray[np.float64]:
        """Returns how strange each clip is to what the other parts show, (N,)."""
        strange = np.empty(len(self.labels))
        usual: dict[int, tuple[npt.NDArray[np.float64], SizeCorrection | None]] = {}
        for part in np.unique(self.part_of).tolist():
            seen = self.part_of != part
            expected = self.expect(seen)
            usual[part] = expected, self.level(seen, expected)
        for first in range(0, len(strange), self.most):
            stop = min(first + self.most, len(strange))
            far = self.deviations(first, stop)
            for part, (expected, levelling) in usual.items():
                held = np.flatnonzero(self.part_of[first:stop] == part)
                if len(held):
                    strange[first + held] = strangeness(far[held], expected, levelling)
        return strange
