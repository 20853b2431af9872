"""Feature vectors: descriptors standardised by channel, and rotated without loss to no more numbers than clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LOG = "log"
"""Kind of feature: the signed logarithm of the row sums."""
PLAIN = "plain"
"""Kind of feature: the numbers themselves."""

FLOOR = 1e-4
"""Floor of the logarithm, as a fraction of the layer's mean row sum. Below the floor the logarithm is almost linear."""

_ADDED_DEVIATION = 1e-3
"""Fraction of a layer's root mean square standard deviation that is added to that of each channel. So a channel that
hardly varies is not scaled up to noise."""
_BLOCK = 4096
"""Number of features that are converted to float64 at a time."""


@dataclass(frozen=True, eq=False)
class Standardiser:
    """Makes vectors of all layers' channels, each with mean 0 and standard deviation 1."""

    kind: str
    layers: Mapping[str, tuple[float, Array, Array]]
    """Floor, means and reciprocal standard deviations by layer. The reciprocal is 0 where a channel is constant."""

    @staticmethod
    def fit(descriptors: Mapping[str, Array], kind: str, which: NDArray[np.bool_] | None = None) -> Standardiser:
        """Computes means and standard deviations.

        Args:
            descriptors: ĝ, g̃ or channel means by layer, finite.
            kind: `LOG` or `PLAIN`.
            which: The clips to use, (N,); all if None.

        Raises:
            ValueError: The kind is unknown, there is no clip, or a descriptor is not finite.

        Shape:
            - descriptors: (N, K_l) each
        """
        layers = {}
        for layer, of_all in descriptors.items():
            raw = of_all if which is None else of_all[which]  # one layer at a time: all together are large
            if not len(raw) or not np.isfinite(raw).all():
                raise ValueError(f"expected finite descriptors of at least one clip in {layer}")
            floor = FLOOR * float(np.abs(raw).mean(dtype=np.float64))
            values = _vectors(raw, kind, floor)
            mean, deviation = values.mean(axis=0), values.std(axis=0)
            varies = deviation > 1e-9 * (1 + np.abs(mean))
            divisor = deviation + _ADDED_DEVIATION * np.sqrt((deviation**2).mean())
            layers[layer] = floor, mean, np.divide(1, divisor, out=np.zeros_like(divisor), where=varies)
        return Standardiser(kind, layers)

    def apply(self, descriptors: Mapping[str, Array]) -> NDArray[np.float32]:
        """Returns the standardised vectors of clips.

        Shape:
            - descriptors: (N, K_l) each
            - returns: (N, D), where D is the number of channels of all layers
        """
        clips, features = len(next(iter(descriptors.values()))), sum(len(mean) for _, mean, _ in self.layers.values())
        vectors, first = np.empty((clips, features), np.float32), 0
        for layer, (floor, mean, scale) in self.layers.items():
            vectors[:, first : first + len(mean)] = (_vectors(descriptors[layer], self.kind, floor) - mean) * scale
            first += len(mean)
        return vectors


def _vectors(raw: Array, kind: str, floor: float) -> NDArray[np.float64]:
    if kind == LOG:
        return logged(raw, floor)
    if kind == PLAIN:
        return np.asarray(raw, np.float64)
    raise ValueError(f"{kind!r} is no kind of feature; use {LOG!r} or {PLAIN!r}")


def logged(raw: Array, floor: float) -> NDArray[np.float64]:
    """Returns sign(ĝ) log(1 + |ĝ| / floor). Row sums are negative where activations may be negative.

    Shape:
        - raw, returns: (N, K)
    """
    wide = np.asarray(raw, np.float64)
    if floor == 0:
        return np.zeros_like(wide)
    return np.asarray(np.sign(wide) * np.log1p(np.abs(wide) / floor))


@dataclass(frozen=True, eq=False)
class ClipSpan:
    """The space that N clips span. Distances, dot products and fits with a ridge are the same in it.

    N - 1 coordinates hold all differences between N clips, however many features they have. The part of a new clip
    outside this space is orthogonal to all N clips, so it does not change which of them are nearer. Its squared length
    is returned beside the coordinates.
    """

    centre: NDArray[np.float64]
    """Mean of the clips, (D,)."""
    basis: NDArray[np.float32] | None
    """Orthonormal basis, (D, R); None if there are fewer features than clips."""

    @staticmethod
    def fit(vectors: Array) -> ClipSpan:
        """Computes the basis from the eigenvectors of the dot products between clips.

        Shape:
            - vectors: (N, D), finite
        """
        clips, features = vectors.shape
        centre = vectors.mean(axis=0, dtype=np.float64)
        if features < clips:
            return ClipSpan(centre, None)
        products = np.zeros((clips, clips))
        for first in range(0, features, _BLOCK):
            some = slice(first, first + _BLOCK)
            part = vectors[:, some] - centre[some]
            products += part @ part.T
        values, eigenvectors = np.linalg.eigh(products)
        # directions of smaller eigenvalues are rounding errors of float32
        kept = values > 1e-10 * max(values[-1], np.finfo(float).tiny)
        mix = eigenvectors[:, kept] / np.sqrt(values[kept])
        basis = np.empty((features, int(kept.sum())), np.float32)
        for first in range(0, features, _BLOCK):
            some = slice(first, first + _BLOCK)
            basis[some] = (vectors[:, some] - centre[some]).T @ mix
        return ClipSpan(centre, basis)

    def coordinates(self, vectors: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns the coordinates of clips in the space, and the squares of their distances from it.

        Shape:
            - vectors: (N, D)
            - returns: (N, R), (N,)
        """
        if self.basis is None:
            return np.asarray(vectors - self.centre, np.float64), np.zeros(len(vectors))
        within = np.zeros((len(vectors), self.basis.shape[1]))
        squares = np.zeros(len(vectors))
        for first in range(0, vectors.shape[1], _BLOCK):
            some = slice(first, first + _BLOCK)
            part = vectors[:, some] - self.centre[some]
            within += part @ self.basis[some]
            squares += (part**2).sum(axis=1)
        return within, np.maximum(squares - (within**2).sum(axis=1), 0)
