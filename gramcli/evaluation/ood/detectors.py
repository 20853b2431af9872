"""Rival scores for unknown sounds, from the network's logits and from descriptors; higher is more unknown.

What is fitted is fitted on training clips alone, as the class bounds are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.fitting.conditional_logit import log_softmax
from gramcli.fitting.covariance import ShrunkCovariance, class_means, scatter, squared_distances
from gramcli.fitting.features import ClipSpan

Array = NDArray[Any]


def max_softmax(logits: Array) -> NDArray[np.float64]:
    """Returns the negative of the largest log-probability (Hendrycks & Gimpel 2017), whose order is that of -max p.

    Shape:
        - logits: (N, C)
        - returns: (N,)
    """
    largest: NDArray[np.float64] = -log_softmax(logits).max(axis=1)
    return largest


def energy(logits: Array) -> NDArray[np.float64]:
    """Returns -log Σ_c exp(logit_c) (Liu et al. 2020, temperature 1).

    Shape:
        - logits: (N, C)
        - returns: (N,)
    """
    largest = np.asarray(logits, np.float64).max(axis=1)
    total: NDArray[np.float64] = -largest - np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    return total


def max_logit(logits: Array) -> NDArray[np.float64]:
    """Returns the negative of the largest logit (Hendrycks et al. 2022).

    Shape:
        - logits: (N, C)
        - returns: (N,)
    """
    largest: NDArray[np.float64] = -np.asarray(logits, np.float64).max(axis=1)
    return largest


@dataclass(frozen=True, eq=False)
class Mahalanobis:
    """Distance to the nearest class mean under one shrunk covariance (Lee et al. 2018, on one vector a clip)."""

    span: ClipSpan
    covariance: ShrunkCovariance
    means: NDArray[np.float64]
    """Of the classes that occur, whitened, (C', R)."""

    @staticmethod
    def fit(vectors: Array, labels: NDArray[np.integer]) -> Mahalanobis:
        """Fits means and covariance; there may be far more features than clips.

        Args:
            vectors: Standardised descriptors, or any others, e.g. mean log-mel, of training clips.
            labels: True classes.

        Raises:
            ValueError: No clips, shapes do not fit, or a number is not finite.

        Shape:
            - vectors: (N, D)
            - labels: (N,)
        """
        _check(vectors)
        if labels.shape != vectors.shape[:1]:
            raise ValueError(f"vectors of {vectors.shape} do not fit labels of {labels.shape}")
        span = ClipSpan.fit(vectors)
        _, means, residuals = class_means(span.coordinates(vectors)[0], labels)
        covariance = scatter(residuals, vectors.shape[1]).shrunk()
        return Mahalanobis(span, covariance, covariance.whiten(means))

    def score(self, vectors: Array) -> NDArray[np.float64]:
        """Returns the squared distance to the nearest mean, over all D features.

        Shape:
            - vectors: (N, D)
            - returns: (N,)
        """
        within, beyond = self.span.coordinates(vectors)
        nearest = squared_distances(self.covariance.whiten(within), self.means).min(axis=1)
        far: NDArray[np.float64] = nearest + beyond / self.covariance.floor
        return far


NEIGHBOURS = 5


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Distance to the k-th nearest training clip after scaling every vector to length 1 (Sun et al. 2022)."""

    vectors: Array
    """Of training clips, of length 1, (N, D)."""
    k: int

    @staticmethod
    def fit(vectors: Array, k: int = NEIGHBOURS) -> Neighbours:
        """Keeps the training clips; k is at most their number.

        Raises:
            ValueError: No clips, k below 1, or a number is not finite.

        Shape:
            - vectors: (N, D)
        """
        _check(vectors)
        if k < 1:
            raise ValueError(f"k is at least 1, not {k}")
        return Neighbours(_unit(vectors), min(k, len(vectors)))

    def score(self, vectors: Array) -> NDArray[np.float64]:
        """Returns the distance to the k-th nearest training clip, 0 to 2.

        Shape:
            - vectors: (N, D)
            - returns: (N,)
        """
        squares = squared_distances(_unit(vectors), self.vectors)
        far: NDArray[np.float64] = np.sqrt(np.partition(squares, self.k - 1, axis=1)[:, self.k - 1])
        return far


def _unit(vectors: Array) -> Array:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1))


def _check(vectors: Array) -> None:
    if vectors.ndim != 2 or not len(vectors):
        raise ValueError(f"vectors of at least one clip expected, not {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise ValueError("a number is not finite")
