"""Class bounds: minimum and maximum of each channel over the training clips of a class (Eq. 7-8)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gramcli.gram import kernels
from gramcli.gram.kernels import Plan


@dataclass(frozen=True, eq=False)
class Bounds:
    """Minimum and maximum of g̃ for each class and channel, at one layer.

    Minima and maxima do not depend on order. So `update` and `merge` give the same bits in any order of clips.
    """

    lower: NDArray[np.float32]
    """λ (C, K); +inf for a class without clips."""
    upper: NDArray[np.float32]
    """Λ (C, K); -inf for a class without clips."""
    counts: NDArray[np.int64]
    """Number of clips in each class, (C,)."""

    @classmethod
    def empty(cls, classes: int, channels: int) -> Bounds:
        """Returns the bounds of no clips."""
        return cls(
            np.full((classes, channels), np.inf, np.float32),
            np.full((classes, channels), -np.inf, np.float32),
            np.zeros(classes, np.int64),
        )

    def update(self, scaled: NDArray[np.float32], labels: NDArray[np.integer], plan: Plan | None = None) -> None:
        """Widens the bounds in place so that they include labelled clips.

        Args:
            scaled: g̃ (N, K).
            labels: True classes (N,), 0 to C - 1.
            plan: Whether to use NumPy or compiled loops; decided by the size of the arrays if None.

        Raises:
            ValueError: A shape or a label does not fit, or a number is not finite. A NaN would make a minimum NaN.
        """
        classes, channels = self.lower.shape
        if scaled.shape != (len(labels), channels):
            raise ValueError(f"expected {len(labels)} clips of {channels} channels, not an array of {scaled.shape}")
        plan = plan or kernels.plan(2 * scaled.size)
        if not (_all_finite(scaled) if plan.compiled else np.isfinite(scaled).all()):
            raise ValueError("descriptors are not finite; leave failed clips out")
        if ((labels < 0) | (labels >= classes)).any():
            raise ValueError(f"labels must be from 0 to {classes - 1}")
        if plan.compiled:
            widen = kernels.machine_code(kernels.widen)
            widen(self.lower, self.upper, np.ascontiguousarray(scaled, np.float32), labels.astype(np.int64))
            np.add.at(self.counts, labels, 1)
            return
        order = np.argsort(labels, kind="stable")
        present, first, counts = np.unique(labels[order], return_index=True, return_counts=True)
        if not len(present):
            return
        by_class = scaled[order]
        self.lower[present] = np.minimum(self.lower[present], np.minimum.reduceat(by_class, first))
        self.upper[present] = np.maximum(self.upper[present], np.maximum.reduceat(by_class, first))
        self.counts[present] += counts

    def merge(self, other: Bounds) -> None:
        """Widens the bounds in place so that they include the bounds of other clips.

        Raises:
            ValueError: The numbers of classes or channels differ.
        """
        if self.lower.shape != other.lower.shape:
            raise ValueError(f"bounds of {other.lower.shape} do not fit those of {self.lower.shape}")
        np.minimum(self.lower, other.lower, out=self.lower)
        np.maximum(self.upper, other.upper, out=self.upper)
        np.add(self.counts, other.counts, out=self.counts)

    def filled(self) -> Bounds:
        """Returns a finite copy. A class without clips gets the bounds 0 and 0, and keeps the count 0."""
        empty = (self.counts == 0)[:, None]
        zero = np.float32(0)
        return Bounds(np.where(empty, zero, self.lower), np.where(empty, zero, self.upper), self.counts.copy())


def _all_finite(scaled: NDArray[np.float32]) -> bool:
    """Tells whether all numbers are finite, by a compiled loop."""
    finite_rows = np.empty(len(scaled), np.bool_)
    kernels.machine_code(kernels.finite)(np.ascontiguousarray(scaled, np.float32), finite_rows)
    return bool(finite_rows.all())
