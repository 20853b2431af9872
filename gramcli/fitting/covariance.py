"""A shrunk covariance (Ledoit and Wolf), for many more features than clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ShrunkCovariance:
    """Σ = (1 - s) S + s μ I, with S the covariance within classes, and μ the mean variance of a feature."""

    shrinkage: float
    """s, from 0 to 1."""
    floor: float
    """s μ, the variance in directions in which the clips do not vary."""
    values: NDArray[np.float64]
    """Eigenvalues of Σ in the space that the clips span, (R,)."""
    vectors: NDArray[np.float64]
    """Eigenvectors, (R, R)."""

    def whiten(self, coordinates: Array) -> NDArray[np.float64]:
        """Returns vectors whose squared Euclidean distances are squared Mahalanobis distances.

        Shape:
            - coordinates, returns: (N, R)
        """
        white: NDArray[np.float64] = coordinates @ self.vectors / np.sqrt(self.values)
        return white


@dataclass(frozen=True, eq=False)
class Scatter:
    """The covariance S within classes, in eigenvalues and eigenvectors, from which any shrinkage is computed."""

    values: NDArray[np.float64]
    """Eigenvalues, ascending, at least 0, (R,)."""
    vectors: NDArray[np.float64]
    """Eigenvectors, (R, R)."""
    features: int
    """D, the number of features. The R coordinates are a rotation of them into the space of the clips."""
    estimate: float
    """The shrinkage whose expected distance from the true covariance is smallest (Ledoit and Wolf 2004)."""

    def shrunk(self, shrinkage: float | None = None) -> ShrunkCovariance:
        """Returns the covariance with a given shrinkage from 0 to 1; with the estimate if None."""
        shrinkage = self.estimate if shrinkage is None else shrinkage
        trace = float(self.values.sum())
        if trace == 0:  # one clip in each class does not show how clips vary
            return ShrunkCovariance(1.0, 1.0, np.ones(len(self.values)), np.eye(len(self.values)))
        # a direction in which no clip varies must not have the variance 0
        floor = max(shrinkage, 1e-9) * trace / self.features
        return ShrunkCovariance(shrinkage, floor, (1 - shrinkage) * self.values + floor, self.vectors)


def scatter(residuals: Array, features: int) -> Scatter:
    r"""Computes the covariance within classes, and the shrinkage that Ledoit and Wolf estimate.

    $$s = \min\!\left(1, \frac{\frac{1}{n^2}\sum_i \lVert z_i\rVert^4 - \frac{1}{n}\lVert S\rVert^2}
    {\lVert S\rVert^2 - (\mathrm{tr}\,S)^2 / D}\right), \qquad \mu = \mathrm{tr}\,S / D$$

    The formula depends on lengths and angles alone, so R coordinates in the space of the clips can replace D features.

    Args:
        residuals: z, clips minus the mean of their class.
        features: D, the number of features before the rotation.

    Shape:
        - residuals: (N, R)
    """
    clips = len(residuals)
    within = residuals.T @ residuals / clips
    norm, trace = float((within**2).sum()), float(np.trace(within))
    spread = norm - trace**2 / features
    noise = float(((residuals**2).sum(axis=1) ** 2).sum()) / clips**2 - norm / clips
    # with one feature, or with equal variances, S and μ I are the same
    estimate = 1.0 if spread <= 1e-12 * norm else min(1.0, max(noise, 0.0) / spread)
    values, vectors = np.linalg.eigh(within)
    return Scatter(np.maximum(values, 0), vectors, features, estimate)


def class_means(vectors: Array, labels: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.float64], Array]:
    """Returns the C' classes that occur, their means, and the clips minus the mean of their class.

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
    """Returns squared Euclidean distances.

    Shape:
        - vectors: (N, R)
        - others: (M, R)
        - returns: (N, M)
    """
    products = np.asarray(vectors, np.float64) @ np.asarray(others, np.float64).T
    lengths = (vectors.astype(np.float64) ** 2).sum(axis=1)[:, None] + (others.astype(np.float64) ** 2).sum(axis=1)
    squares: NDArray[np.float64] = np.maximum(lengths - 2 * products, 0)
    return squares
