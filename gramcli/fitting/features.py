"""Feature vectors: standardised channel by channel, and rotated without loss into as few numbers as there are clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LOG = "log"
"""Kind of feature: the signed logarithm of row sums."""
PLAIN = "plain"
"""Kind of feature: numbers as they are."""

FLOOR = 1e-4
"""Part of the layer's mean below which row sums count for little in the logarithm."""

_STEADY = 1e-3
"""Part of a layer's usual standard deviation that is added to each channel's, so that no channel is blown up."""
_BLOCK = 4096
"""Features that are widened to float64 at a time."""


@dataclass(frozen=True, eq=False)
class Standardiser:
    """Turns descriptors into vectors of mean 0 and standard deviation 1, channel by channel over all layers."""

    kind: str
    layers: Mapping[str, tuple[float, Array, Array]]
    """Floor, mean and one over deviation by layer; 0 in place of the last where a channel never changes."""

    @staticmethod
    def fit(descriptors: Mapping[str, Array], kind: str) -> Standardiser:
        """Measures means and deviations.

        Args:
            descriptors: ĝ, g̃ or channel means by layer, finite.
            kind: `LOG` or `PLAIN`.

        Raises:
            ValueError: No such kind, no clip, or a descriptor that is not finite.

        Shape:
            - descriptors: (N, K_l) each
        """
        layers = {}
        for layer, raw in descriptors.items():
            if not len(raw) or not np.isfinite(raw).all():
                raise ValueError(f"finite descriptors of at least one clip expected in {layer}")
            floor = FLOOR * float(np.abs(raw).mean(dtype=np.float64))
            values = _vectors(raw, kind, floor)
            mean, deviation = values.mean(axis=0), values.std(axis=0)
            changes = deviation > 1e-9 * (1 + np.abs(mean))
            steady = deviation + _STEADY * np.sqrt((deviation**2).mean())
            layers[layer] = floor, mean, np.divide(1, steady, out=np.zeros_like(steady), where=changes)
        return Standardiser(kind, layers)

    def apply(self, descriptors: Mapping[str, Array]) -> NDArray[np.float32]:
        """Returns the vectors of clips.

        Shape:
            - descriptors: (N, K_l) each
            - returns: (N, D), D the channels of all layers
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
    raise ValueError(f"no such kind of feature: {kind}")


def logged(raw: Array, floor: float) -> NDArray[np.float64]:
    """Returns the logarithm of row sums beyond a floor, on both sides of 0, where activations below 0 lead.

    Shape:
        - raw, returns: (N, K)
    """
    wide = np.asarray(raw, np.float64)
    if floor == 0:
        return np.zeros_like(wide)
    return np.asarray(np.sign(wide) * np.log1p(np.abs(wide) / floor))


@dataclass(frozen=True, eq=False)
class ClipSpan:
    """The space that some clips span. Distances, dot products and ridge-penalised fits are the same in it.

    N - 1 numbers hold all that N clips with more features differ in. What a new clip has beyond this space is at right
    angles to every clip, so it changes no comparison between them; its length is kept.
    """

    centre: NDArray[np.float64]
    basis: NDArray[np.float32] | None
    """(D, R); None where there are no more features than clips."""

    @staticmethod
    def fit(vectors: Array) -> ClipSpan:
        """Finds the space by the eigenvectors of the clips' own dot products.

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
        lengths, turned = np.linalg.eigh(products)
        # squares of rounding errors of float32 are no direction
        there = lengths > 1e-10 * max(lengths[-1], np.finfo(float).tiny)
        mix = turned[:, there] / np.sqrt(lengths[there])
        basis = np.empty((features, int(there.sum())), np.float32)
        for first in range(0, features, _BLOCK):
            some = slice(first, first + _BLOCK)
            basis[some] = (vectors[:, some] - centre[some]).T @ mix
        return ClipSpan(centre, basis)

    def coordinates(self, vectors: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns where clips lie in the space, and the squares of their distances from it.

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
