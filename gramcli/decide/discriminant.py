"""What all layers say together: how far a clip is from each class's mean, in units of how clips of a class vary.

Bounds look at one channel at a time. How channels vary together, within a layer and across layers, is in one covariance
that all classes share; distances under it are linear in the descriptor as far as they tell classes apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.decide.scaling import floored, sharpness_of
from gramcli.decide.shrinkage import Scatter, class_means, scatter, squared_distances
from gramcli.decide.space import Span, Standard, logged

Array = NDArray[Any]

SHRINKAGES = (None, 0.01, 0.1, 0.5, 0.9)
"""Ledoit and Wolf's estimate, and others around it."""


@dataclass(frozen=True, eq=False)
class Discriminant:
    r"""Shared-covariance linear discriminant over the logarithms x of ĝ of all layers, standardised by channel.

    $$q_c = \mathrm{softmax}_c\, -t\,\big(\lVert x - m_c\rVert^2_{\Sigma^{-1}} - \kappa / n_c\big)$$

    m_c is the mean of the n_c clips of class c, Σ the shrunk covariance about these means, and κ the squared distance
    that is usual of a clip that neither has set: the fewer clips a mean is from, the further it lies from all clips,
    which would make a class of few clips vanish.
    """

    floors: Mapping[str, float]
    """Where the logarithm of each layer begins."""
    weights: Mapping[str, NDArray[np.float32]]
    """Of the logarithms, (K_l, C) by layer."""
    bias: NDArray[np.float64]
    """(C,)."""

    def log_probabilities(self, descriptors: Mapping[str, Array]) -> NDArray[np.float64]:
        """Returns log q of clips.

        Args:
            descriptors: ĝ of the layers.

        Shape:
            - descriptors: (N, K_l) each
            - returns: (N, C)
        """
        total = np.zeros((len(next(iter(descriptors.values()))), len(self.bias)))
        for layer, weights in self.weights.items():
            # a matrix product would round by how many clips there are
            total += np.einsum("nk,kc->nc", logged(descriptors[layer], self.floors[layer]), weights.astype(np.float64))
        return floored(total + self.bias)


@dataclass(frozen=True, eq=False)
class Learnt:
    """A discriminant from all clips, and what was learnt by holding parts of them out."""

    discriminant: Discriminant
    held_out: NDArray[np.float64]
    """log q of the clips that have a part, from fits that had not seen it, (V, C)."""
    shrinkage: float | None
    """That was chosen; None for the estimate."""
    usual: float
    """κ."""
    sharpness: float
    """t."""


def learn(
    descriptors: Mapping[str, Array],
    labels: NDArray[np.integer],
    part_of: NDArray[np.intp],
    classes: int,
    progress: Callable[[], None] = lambda: None,
) -> Learnt:
    """Fits on training clips and all parts of validation but one, which it scores; then on all clips.

    The shrinkage whose scores make the true classes likeliest is taken. κ and the temperature are from these scores
    too: clips that a network has learnt lie closer to their mean than new ones do.

    Args:
        descriptors: ĝ by layer, finite.
        labels: True classes.
        part_of: Part of each validation clip, as `parts` deals them; -1 for training clips.
        classes: C. A class without clips has a floor for a probability.
        progress: Called after each fit.

    Raises:
        ValueError: No training clip, fewer than two parts, or a descriptor that is not finite.

    Shape:
        - descriptors: (N, K_l) each
        - labels, part_of: (N,)
    """
    held = part_of >= 0
    if len(np.unique(part_of[held])) < 2:
        raise ValueError("cross-fitting takes 2 parts of validation clips")
    standard = Standard.fit({layer: raw[~held] for layer, raw in descriptors.items()}, "log")
    vectors = standard.apply(descriptors)
    span, features = Span.fit(vectors), vectors.shape[1]
    points = span.coordinates(vectors)[0]
    far = {shrinkage: np.empty((len(labels), classes)) for shrinkage in SHRINKAGES}
    inverse = np.empty((len(labels), classes))
    for part in np.unique(part_of[held]):
        seen, out = part_of != part, part_of == part
        fitted = _Means.of(points[seen], labels[seen], features, classes)
        inverse[out] = fitted.inverse
        for shrinkage in SHRINKAGES:
            far[shrinkage][out] = fitted.distances(points[out], shrinkage)
        progress()
    own = np.arange(len(labels)), labels
    best: tuple[float, float | None, float, float, Array] | None = None
    for shrinkage, distances in far.items():
        measured = held & np.isfinite(distances[own])
        # a clip is as far from its class as clips vary, and as the mean is from where it would be with more clips
        usual = float((distances[own] / (1 + inverse[own]))[measured].mean()) if measured.any() else 0.0
        scores = usual * inverse[held] - distances[held]
        sharpness = sharpness_of(scores, labels[held])
        told = floored(scores * sharpness)
        loss = -float(told[np.arange(len(told)), labels[held]].mean())
        if best is None or loss < best[0]:
            best = loss, shrinkage, usual, sharpness, told
    assert best is not None
    _, shrinkage, usual, sharpness, told = best
    whole = _Means.of(points, labels, features, classes)
    progress()
    return Learnt(_folded(whole, shrinkage, usual, sharpness, standard, span), told, shrinkage, usual, sharpness)


@dataclass(frozen=True, eq=False)
class _Means:
    """Class means and the scatter about them."""

    present: NDArray[np.intp]
    means: NDArray[np.float64]
    """(C', R)."""
    inverse: NDArray[np.float64]
    """1 / n_c; 0 without clips, (C,)."""
    scatter: Scatter

    @staticmethod
    def of(points: Array, labels: NDArray[np.integer], features: int, classes: int) -> _Means:
        present, means, residuals = class_means(points, labels)
        counts = np.bincount(labels, minlength=classes)
        inverse = np.divide(1.0, counts, out=np.zeros(classes), where=counts > 0)
        return _Means(present, means, inverse, scatter(residuals, features))

    def distances(self, points: Array, shrinkage: float | None) -> NDArray[np.float64]:
        """Returns squared distances to every class, infinite to one without clips, (N, C)."""
        covariance = self.scatter.shrunk(shrinkage)
        far = np.full((len(points), len(self.inverse)), np.inf)
        far[:, self.present] = squared_distances(covariance.whiten(points), covariance.whiten(self.means))
        return far


def _folded(
    fitted: _Means, shrinkage: float | None, usual: float, sharpness: float, standard: Standard, span: Span
) -> Discriminant:
    """Returns the same scores, but for what all classes share, as weights of plain logarithms."""
    covariance = fitted.scatter.shrunk(shrinkage)
    white = covariance.whiten(fitted.means)
    classes = len(fitted.inverse)
    # -‖x - m‖² is 2 m·x - ‖m‖² less what is the same for all classes
    turned = 2 * sharpness * (covariance.vectors / np.sqrt(covariance.values)) @ white.T
    weights = np.zeros((len(span.centre), classes))
    weights[:, fitted.present] = turned if span.basis is None else span.basis @ turned
    bias = np.full(classes, -np.inf)
    bias[fitted.present] = sharpness * (usual * fitted.inverse[fitted.present] - (white**2).sum(axis=1))
    bias -= span.centre @ weights
    floors, by_layer, first = {}, {}, 0
    for layer, (floor, mean, scale) in standard.layers.items():
        own = weights[first : first + len(mean)] * scale[:, None]
        bias -= mean @ own
        floors[layer], by_layer[layer] = floor, own.astype(np.float32)
        first += len(mean)
    return Discriminant(floors, by_layer, bias)
