"""Correction of the evidence for unequal class sizes.

The bounds of a class with few training clips are narrower, so new clips of this class lie further outside them: with n
clips, a new one is outside a channel's range with probability 2/(n + 1). By the smallest deviation, a class of 5 clips
never wins against one of 500. It is not enough to divide by the deviation that is expected at a size, because the shape
of the distribution changes too. Correcting mean and spread of the logarithm is enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MIN_FREEDOM = 4
"""Degrees of freedom needed to estimate a ratio of spreads. With fewer, the ratio is taken as 1."""

_ROUNDING = 1e-12
"""Variance that may be a rounding error. Evidence with no more variance is constant, and has no spread to compare."""


@dataclass(frozen=True, eq=False)
class SizeCorrection:
    r"""A linear map of the evidence z of a class with n training clips to that of the largest classes, with N clips.

    $$z' = \mu_l(N) + \frac{\sigma_l(N)}{\sigma_l(n)} \big(z - \mu_l(n)\big) - \rho(n)$$

    μ and σ are mean and spread of the evidence of clips against their own class, if its bounds are from n or N clips.
    ρ corrects what is left, because the shapes of the distributions differ; ρ(N) = 0. The evidence of the largest
    classes does not change by a bit.
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
        corrected: NDArray[np.float64] = self.scale * evidence + self.shift
        return corrected


def fit(evidence: Array, labels: NDArray[np.integer], sizes: NDArray[np.integer], counts: Array) -> SizeCorrection:
    """Fits the correction on larger classes: how their evidence would change if they had fewer training clips.

    Each size is compared with the next larger one, on the same clips of all classes that are large enough. The steps of
    the mean and the ratios of the spread are then added up over sizes. So classes that differ in more than their size
    do not disturb the result. The spread is that of clips about the mean of their class and subsample. Last, ρ is the
    same for all layers; see `_remaining_steps`. Between sizes, all three are interpolated linearly in log n.

    The clips must be validation clips, which neither set the bounds nor trained the network. The network fits training
    clips closely, so those that a subsample leaves out lie too close to it, and small classes would still lose.

    Args:
        evidence: Evidence of clips against each subsample of their own class.
        labels: Class of each clip.
        sizes: Number of clips in each subsample; 0 if there is no such subsample.
        counts: Training clips by class, all positive.

    Shape:
        - evidence: (N, L, D)
        - labels: (N,)
        - sizes: (C, D)
        - counts: (C,)
    """
    layers = evidence.shape[1]
    subsample_sizes = np.unique(sizes[sizes > 0])
    if not len(subsample_sizes):
        return SizeCorrection(np.ones((layers, len(counts))), np.zeros((layers, len(counts))))
    clips_of = _clips_by_class(labels)
    mean, log_spread = np.zeros((len(subsample_sizes), layers)), np.zeros((len(subsample_sizes), layers))
    for n, (small, large) in enumerate(pairwise(subsample_sizes), 1):
        classes = [c for c in clips_of if (sizes[c] == large).any()]
        at_small, at_large = (_moments(evidence, clips_of, sizes, classes, size) for size in (small, large))
        if n == 1:
            mean[0] = at_small.mean
        mean[n] = mean[n - 1] + at_large.mean - at_small.mean
        log_spread[n] = log_spread[n - 1]
        if at_small.freedom >= MIN_FREEDOM:
            varies = (at_small.variance > _ROUNDING) & (at_large.variance > _ROUNDING)
            log_spread[n, varies] += 0.5 * np.log(at_large.variance[varies] / at_small.variance[varies])
    remaining = _remaining_steps(evidence, clips_of, sizes, mean, np.exp(log_spread[-1] - log_spread))
    log_sizes, log_counts = np.log(subsample_sizes), np.log(counts)
    mean_of_class, log_spread_of_class = (
        np.array([np.interp(log_counts, log_sizes, column) for column in table.T]).reshape(layers, len(counts))
        for table in (mean, log_spread)
    )
    scale = np.exp(log_spread[-1][:, None] - log_spread_of_class)
    shift = mean[-1][:, None] - scale * mean_of_class - np.interp(log_counts, log_sizes, remaining)
    return SizeCorrection(scale, shift)


def _clips_by_class(labels: NDArray[np.integer]) -> dict[int, NDArray[np.intp]]:
    """Returns the clips of each class that has any, classes and clips ascending."""
    order = np.argsort(labels, kind="stable")
    classes, first = np.unique(labels[order], return_index=True)
    return dict(zip(classes.tolist(), np.split(order, first)[1:], strict=True))


def _remaining_steps(
    evidence: Array, clips_of: Mapping[int, Array], sizes: Array, mean: Array, scale: Array
) -> NDArray[np.float64]:
    """Returns ρ by size: how far evidence with corrected mean and spread still is above that of the largest size.

    The more often a clip is inside all bounds, the more skewed its evidence is. So if two classes have the same mean,
    the class of more clips wins too often. ρ is the median of the differences, so that the smaller and the larger size
    are the nearer one equally often.

    Shape:
        - mean, scale: (J, L), by size
        - returns: (J,), the last one 0
    """
    subsample_sizes = np.unique(sizes[sizes > 0])
    steps = np.zeros(len(subsample_sizes))
    for n, large in enumerate(subsample_sizes[1:]):
        differences = []
        for c, clips in clips_of.items():
            if not (sizes[c] == large).any():
                continue
            own = evidence[clips]
            at_small, at_large = (
                (scale[j][:, None] * (own[:, :, sizes[c] == subsample_sizes[j]] - mean[j][:, None])).mean(axis=1)
                for j in (n, n + 1)
            )
            differences.append((at_small[:, :, None] - at_large[:, None]).ravel())
        steps[n] = np.median(np.concatenate(differences)) if differences else 0.0
    return np.cumsum(steps[::-1])[::-1]


@dataclass(frozen=True, eq=False)
class _Moments:
    """Mean and variance of the evidence at one size."""

    mean: NDArray[np.float64]
    """Over clips and subsamples, (L,)."""
    variance: NDArray[np.float64]
    """About the mean of class and subsample, (L,)."""
    freedom: int
    """Degrees of freedom of the variance."""


def _moments(
    evidence: Array, clips_of: Mapping[int, Array], sizes: Array, classes: Sequence[int], size: int
) -> _Moments:
    layers = evidence.shape[1]
    total, squares, clips, freedom = np.zeros(layers), np.zeros(layers), 0, 0
    for c in classes:
        own = evidence[clips_of[c]][:, :, sizes[c] == size]
        total += own.mean(axis=2).sum(axis=0)
        squares += ((own - own.mean(axis=0)) ** 2).mean(axis=2).sum(axis=0)
        clips, freedom = clips + len(own), freedom + len(own) - 1
    return _Moments(total / max(clips, 1), squares / max(freedom, 1), freedom)
