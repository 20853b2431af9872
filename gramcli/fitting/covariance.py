"""A covariance for far more features than clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ShrunkCovariance:
    r"""Σ = (1 - s) S + s μ I, with S the mean square about the clips' own class means and μ its mean over features."""

    shrinkage: float
    floor: float
    """s μ, the variance in directions without any clip."""
    values: NDArray[np.float64]
    """Eigenvalues of Σ in the space of the clips, (R,)."""
    vectors: NDArray[np.float64]
    """Their directions, (R, R)."""

    def whiten(self, coordinates: Array) -> NDArray[np.float64]:
        """Returns vectors whose squared distances are Mahalanobis's.

        Shape:
            - coordinates, returns: (N, R)
        """
        white: NDArray[np.float64] = coordinates @ self.vectors / np.sqrt(self.values)
        return white


@dataclass(frozen=True, eq=False)
class Scatter:
    """S, taken apart once for any shrinkage."""

    values: NDArray[np.float64]
    """Eigenvalues, ascending, not below 0, (R,)."""
    vectors: NDArray[np.float64]
    """Their directions, (R, R)."""
    features: int
    """D, of which R coordinates are a turned part."""
    estimate: float
    """The shrinkage that is expected to bring it nearest the true covariance (Ledoit & Wolf 2004)."""

    def shrunk(self, shrinkage: float | None = None) -> ShrunkCovariance:
        """Returns the covariance at a shrinkage, 0 to 1, or at the estimate."""
        shrinkage = self.estimate if shrinkage is None else shrinkage
        trace = float(self.values.sum())
        if trace == 0:  # one clip a class: nothing is known of how they vary
            return ShrunkCovariance(1.0, 1.0, np.ones(len(self.values)), np.eye(len(self.values)))
        # nothing is wholly certain: a direction without clips must not have the variance 0
        floor = max(shrinkage, 1e-9) * trace / self.features
        return ShrunkCovariance(shrinkage, floor, (1 - shrinkage) * self.values + floor, self.vectors)


def scatter(residuals: Array, features: int) -> Scatter:
    r"""Returns the mean square about class means, and how far Ledoit and Wolf would shrink it.

    $$s = \min\!\left(1, \frac{\frac{1}{n^2}\sum_i \lVert z_i\rVert^4 - \frac{1}{n}\lVert S\rVert^2}
    {\lVert S\rVert^2 - (\mathrm{tr}\,S)^2 / D}\right), \qquad \mu = \mathrm{tr}\,S / D$$

    All of it depends on lengths alone, so coordinates in the space of the clips give what D features would.

    Args:
        residuals: z, clips less the mean of their class.
        features: D, of which the coordinates are a turned part.

    Shape:
        - residuals: (N, R)
    """
    clips = len(residuals)
    square = residuals.T @ residuals / clips
    norm, trace = float((square**2).sum()), float(np.trace(square))
    spread = norm - trace**2 / features
    noise = float(((residuals**2).sum(axis=1) ** 2).sum()) / clips**2 - norm / clips
    # of one feature, or of equal ones, both matrices are the same
    estimate = 1.0 if spread <= 1e-12 * norm else min(1.0, max(noise, 0.0) / spread)
    lengths, vectors = np.linalg.eigh(square)
    return Scatter(np.maximum(lengths, 0), vectors, features, estimate)


def class_means(vectors: Array, labels: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.float64], Array]:
    """Returns the classes that occur, their means, and clips less the mean of their class.

    Shape:
        - vectors: (N, R)
        - labels: (N,)
        - returns: (C',), (C', R), (N, R)
    """
    classes, class_of = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(classes), vectors.shape[1]))
    np.add.at(sums, class_of, np.asarray(vectors, np.float64))
    means = sums / np.bincount(class_of)[:, None]
    return classes, means, vectors - means[class_of]


def squared_distances(vectors: Array, others: Array) -> NDArray[np.float64]:
    """Returns the squares of Euclidean distances.

    Shape:
        - vectors: (N, R)
        - others: (M, R)
        - returns: (N, M)
    """
    products = np.asarray(vectors, np.float64) @ np.asarray(others, np.float64).T
    lengths = (vectors.astype(np.float64) ** 2).sum(axis=1)[:, None] + (others.astype(np.float64) ** 2).sum(axis=1)
    squares: NDArray[np.float64] = np.maximum(lengths - 2 * products, 0)
    return squares
