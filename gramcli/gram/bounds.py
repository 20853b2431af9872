"""Class bounds: the range of every channel over the training clips of a class (Eq. 7-8), updated shard by shard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gramcli.gram import kernels
from gramcli.gram.kernels import Plan


@dataclass(frozen=True, eq=False)
class Bounds:
    """Smallest and largest g̃ of each class at one layer.

    Minima and maxima do not depend on order, so any order of `update` and `merge` gives the same bits.
    """

    lower: NDArray[np.float32]
    """λ (C, K); +inf for a class without clips."""
    upper: NDArray[np.float32]
    """Λ (C, K); -inf for a class without clips."""
    counts: NDArray[np.int64]
    """Clips a class (C,)."""

    @classmethod
    def empty(cls, classes: int, channels: int) -> Bounds:
        """Returns bounds that have seen no clip."""
        return cls(
            np.full((classes, channels), np.inf, np.float32),
            np.full((classes, channels), -np.inf, np.float32),
            np.zeros(classes, np.int64),
        )

    def update(self, scaled: NDArray[np.float32], labels: NDArray[np.integer], plan: Plan | None = None) -> None:
        """Widens the bounds in place by clips of known class.

        Args:
            scaled: g̃ (N, K).
            labels: True classes (N,), 0 to C - 1.
            plan: How to compute it; by the size of the arrays if None. Every plan gives the same bits.

        Raises:
            ValueError: A shape or a label does not fit, or a number is not finite: NaN would poison a minimum.
        """
        classes, channels = self.lower.shape
        if scaled.shape != (len(labels), channels):
            raise ValueError(f"{len(labels)} clips of {channels} channels expected, not {scaled.shape}")
        plan = plan or kernels.plan(2 * scaled.size)
        if not (_finite(scaled) if plan.compiled else np.isfinite(scaled).all()):
            raise ValueError("descriptors are not finite: leave failed clips out")
        if ((labels < 0) | (labels >= classes)).any():
            raise ValueError(f"labels go from 0 to {classes - 1}")
        if plan.compiled:
            widen = kernels.machine_code(kernels.widen)
            widen(self.lower, self.upper, np.ascontiguousarray(scaled, np.float32), labels.astype(np.int64))
            np.add.at(self.counts, labels, 1)
            return
        for label in np.unique(labels):
            clips = scaled[labels == label]
            np.minimum(self.lower[label], clips.min(axis=0), out=self.lower[label])
            np.maximum(self.upper[label], clips.max(axis=0), out=self.upper[label])
            self.counts[label] += len(clips)

    def merge(self, other: Bounds) -> None:
        """Widens the bounds in place by the bounds of other clips.

        Raises:
            ValueError: Numbers of classes or channels differ.
        """
        if self.lower.shape != other.lower.shape:
            raise ValueError(f"bounds of {other.lower.shape} do not fit those of {self.lower.shape}")
        np.minimum(self.lower, other.lower, out=self.lower)
        np.maximum(self.upper, other.upper, out=self.upper)
        np.add(self.counts, other.counts, out=self.counts)

    def filled(self) -> Bounds:
        """Returns a finite copy. A class without clips gets the bounds 0 and 0; `counts` tells it from others."""
        absent = (self.counts == 0)[:, None]
        zero = np.float32(0)
        return Bounds(np.where(absent, zero, self.lower), np.where(absent, zero, self.upper), self.counts.copy())


def _finite(scaled: NDArray[np.float32]) -> bool:
    found = np.empty(len(scaled), np.bool_)
    kernels.machine_code(kernels.finite)(np.ascontiguousarray(scaled, np.float32), found)
    return bool(found.all())
