"""Evidence against bounds of few clips, brought to the level of evidence against bounds of many.

The fewer clips a class's bounds are from, the narrower they are, and the further its own new clips leave them: with n
clips, a new one is outside a channel's range with probability 2/(n + 1). By the smallest deviation a class of 5 clips
never wins against one of 500. Dividing by the deviation that is usual at a size does not mend that, since the
distribution changes its shape too; mean and spread of its logarithm do.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LEAST = 4
"""Degrees of freedom that a ratio of spreads takes; with fewer the spread is taken to be the same."""

FLAT = 1e-12
"""Variance that is rounding: evidence that is always the same has no spread to compare."""


@dataclass(frozen=True, eq=False)
class SizeCorrection:
    r"""What brings evidence z of a class of n clips to the level of the largest classes.

    $$z' = \mu_l(N) + \frac{\sigma_l(N)}{\sigma_l(n)} \big(z - \mu_l(n)\big) - \rho(n)$$

    μ and σ are mean and spread of the evidence of clips against their own class where its bounds are from n or N clips;
    ρ makes up for what these leave of the shape, and is 0 at N.
    Evidence of the largest classes, N clips, is not changed by a bit.
    """

    scale: NDArray[np.float64]
    """σ(N) / σ(n), (L, C)."""
    shift: NDArray[np.float64]
    """μ(N) - scale μ(n) - ρ(n), (L, C)."""

    def apply(self, evidence: Array) -> NDArray[np.float64]:
        """Returns z'.

        Shape:
            - evidence, returns: (N, L, C)
        """
        level: NDArray[np.float64] = self.scale * evidence + self.shift
        return level


def learn(evidence: Array, labels: NDArray[np.integer], sizes: NDArray[np.integer], counts: Array) -> SizeCorrection:
    """Learns from larger classes what their evidence would be, had they fewer training clips.

    From each size to the next, the step of the mean and the ratio of the spreads are those of one and the same clips,
    from all classes large enough, and the steps are added up: so classes that differ in more than size do not disturb.
    Last, one number for all layers sees to it that each size is as often the nearest as the next.
    The spread is that of clips about the mean of their class and subsample. Between sizes both are interpolated, linear
    in log n.

    The clips must be ones that neither set bounds nor trained the network (validation clips): training clips left out
    of a subsample lie closer to it, as the network has learnt them by heart, and small classes would still lose.

    Args:
        evidence: Of clips against each subsample of their own class.
        labels: Class of each clip.
        sizes: Clips of each subsample; 0 for none.
        counts: Training clips by class, all positive.

    Shape:
        - evidence: (N, L, D)
        - labels: (N,)
        - sizes: (C, D)
        - counts: (C,)
    """
    layers = evidence.shape[1]
    known = np.unique(sizes[sizes > 0])
    mean, spread = np.zeros((len(known), layers)), np.zeros((len(known), layers))  # the latter in logarithms
    for n, (small, large) in enumerate(pairwise(known), 1):
        classes = np.flatnonzero((sizes == large).any(axis=1))
        one, other = (_pooled(evidence, labels, sizes, classes, size) for size in (small, large))
        if n == 1:
            mean[0] = one.mean
        mean[n] = mean[n - 1] + other.mean - one.mean
        spread[n] = spread[n - 1]
        if one.freedom >= LEAST:
            both = (one.variance > FLAT) & (other.variance > FLAT)
            spread[n, both] += 0.5 * np.log(other.variance[both] / one.variance[both])
    if not len(known):
        return SizeCorrection(np.ones((layers, len(counts))), np.zeros((layers, len(counts))))
    excess = _excess(evidence, labels, sizes, mean, np.exp(spread[-1] - spread))
    at, where = np.log(known), np.log(counts)
    mean_of, spread_of = (
        np.array([np.interp(where, at, column) for column in table.T]).reshape(layers, len(counts))
        for table in (mean, spread)
    )
    scale = np.exp(spread[-1][:, None] - spread_of)
    return SizeCorrection(scale, mean[-1][:, None] - scale * mean_of - np.interp(where, at, excess))


def _excess(evidence: Array, labels: Array, sizes: Array, mean: Array, scale: Array) -> NDArray[np.float64]:
    """Returns how far evidence of equal mean and spread, over all layers, still is above that of the largest size.

    The more often a clip is within all bounds, the more skewed is its evidence: of two classes of equal mean, the one
    of more clips would win more often than it should. The median of differences says by how much.

    Shape:
        - mean, scale: (J, L), by size
        - returns: (J,), 0 in the end
    """
    known = np.unique(sizes[sizes > 0])
    steps = np.zeros(len(known))
    for n, large in enumerate(known[1:]):
        differences = []
        for c in np.flatnonzero((sizes == large).any(axis=1)):
            own = evidence[labels == c]
            one, other = (
                (scale[j][:, None] * (own[:, :, sizes[c] == known[j]] - mean[j][:, None])).mean(axis=1)
                for j in (n, n + 1)
            )
            differences.append((one[:, :, None] - other[:, None]).ravel())
        steps[n] = np.median(found) if len(found := np.concatenate(differences)) else 0.0
    return np.cumsum(steps[::-1])[::-1]


@dataclass(frozen=True, eq=False)
class _Pooled:
    mean: NDArray[np.float64]
    """Over clips and subsamples, (L,)."""
    variance: NDArray[np.float64]
    """About the mean of class and subsample, (L,)."""
    freedom: int


def _pooled(evidence: Array, labels: Array, sizes: Array, classes: Array, size: int) -> _Pooled:
    layers = evidence.shape[1]
    total, squares, clips, freedom = np.zeros(layers), np.zeros(layers), 0, 0
    for c in classes:
        own = evidence[labels == c][:, :, sizes[c] == size]
        if len(own):
            total += own.mean(axis=2).sum(axis=0)
            squares += ((own - own.mean(axis=0)) ** 2).mean(axis=2).sum(axis=0)
            clips, freedom = clips + len(own), freedom + len(own) - 1
    return _Pooled(total / max(clips, 1), squares / max(freedom, 1), freedom)
