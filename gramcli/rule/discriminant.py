"""A linear discriminant over the row sums of all layers, with one covariance that all classes share.

Bounds treat each channel alone. The covariance holds how channels vary together, within a layer and across layers. The
score of a class is its distance from the clip in units of this covariance. Up to a term that is the same for all
classes, it is linear in the descriptor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.blocks import blocks
from gramcli.fitting.covariance import Scatter, ShrunkCovariance, class_means, scatter
from gramcli.fitting.cross_fitting import LabelledClips
from gramcli.fitting.features import LOG, ClipSpan, Standardiser, logged
from gramcli.fitting.temperature import fit_inverse_temperature, floored_log_softmax

Array = NDArray[Any]

_BLOCK = 1 << 23
"""Weights of a layer that are converted to or from float64 at a time, 64 MiB."""

SHRINKAGES = (None, 0.01, 0.1, 0.5, 0.9)
"""Shrinkages of the covariance that are tried. None is the estimate of Ledoit and Wolf."""


@dataclass(frozen=True, eq=False)
class Discriminant:
    r"""Linear discriminant with a shared covariance, over the standardised logarithms x of ĝ of all layers.

    $$q_c = \mathrm{softmax}_c\; t f_c \Big(2\,\langle m_c - m,\, x - m\rangle - \lVert m_c - m\rVert^2
    + \kappa \big(\tfrac{1}{n_c} - \tfrac{1}{n}\big)\Big), \qquad
    f_c = \sqrt{\frac{\tau^2 + \kappa / N}{\tau^2 + \kappa / n_c}}$$

    Lengths and dot products are under the inverse of Σ, the shrunk covariance within classes. m_c is the mean of the
    n_c clips of class c, m the mean of all n clips, t the inverse temperature. If all classes have the same size, the
    nearest mean wins.

    The mean of few clips is further from m by chance, so a small class would be chosen too rarely. The term with κ
    corrects this; κ is the mean squared distance of held-out clips from the mean of their class. Chance also makes the
    scores of a small class spread more. The factor f_c brings their spread to that of the largest class, with N clips.
    τ² is the variance of class means about m without chance (method of moments of a one-way random effect, Searle et
    al. 1992).
    """

    floors: Mapping[str, float]
    """Floor of the logarithm by layer; see `gramcli.fitting.features.logged`."""
    weights: Mapping[str, NDArray[np.float32]]
    """Weights of the logarithms by layer, (K_l, C)."""
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
            vectors = logged(descriptors[layer], self.floors[layer])
            for some in blocks(len(self.bias), len(weights), _BLOCK):
                # einsum, as the rounding of a matrix product depends on the number of clips
                total[:, some] += np.einsum("nk,kc->nc", vectors, weights[:, some].astype(np.float64))
        return floored_log_softmax(total + self.bias)


@dataclass(frozen=True, eq=False)
class FittedDiscriminant:
    """A discriminant fitted on all clips, and what cross-fitting chose."""

    discriminant: Discriminant
    held_out: NDArray[np.float64]
    """log q of the V clips that have a part, each from a fit without its part, (V, C)."""
    shrinkage: float | None
    """The shrinkage that was chosen; None for the estimate of Ledoit and Wolf."""
    own_distance: float
    """κ."""
    inverse_temperature: float
    """t."""


def fit(
    descriptors: Mapping[str, Array], clips: LabelledClips, progress: Callable[[], None] = lambda: None
) -> FittedDiscriminant:
    """Fits a discriminant on training and validation clips.

    First it is cross-fitted: for each part, on the training clips and all other parts. The shrinkage whose scores give
    the true classes the largest likelihood is chosen. κ and t are from these scores too, because training clips of a
    network lie closer to their mean than new clips do. Then the discriminant is fitted on all clips.

    Args:
        descriptors: ĝ by layer, finite.
        clips: Labels and parts. A class without clips gets the smallest probability.
        progress: Called after each fit.

    Raises:
        ValueError: There is no training clip, or a descriptor is not finite.

    Shape:
        - descriptors: (N, K_l) each
    """
    labels, held = clips.labels, clips.in_parts
    standardiser = Standardiser.fit(descriptors, LOG, ~held)
    vectors = standardiser.apply(descriptors)
    span, features = ClipSpan.fit(vectors), vectors.shape[1]
    points = span.coordinates(vectors)[0]
    del vectors  # as large as all descriptors
    best = _choose_shrinkage(points, features, clips, progress)
    means = _ClassMeans.of(points, labels, features)
    covariance = means.scatter.shrunk(best.shrinkage)
    whitened = means.whiten(covariance)
    progress()
    unwhiten = covariance.vectors / np.sqrt(covariance.values)
    weights = best.inverse_temperature * unwhiten @ whitened.weights(best.own_distance)
    bias = np.full(clips.classes, -np.inf)
    bias[means.present] = best.inverse_temperature * whitened.bias(best.own_distance)
    return FittedDiscriminant(
        _in_channels(weights, bias, means.present, standardiser, span),
        best.held_out,
        best.shrinkage,
        best.own_distance,
        best.inverse_temperature,
    )


@dataclass(frozen=True, eq=False)
class _Choice:
    """One shrinkage, and what cross-fitting with it gives."""

    loss: float
    shrinkage: float | None
    own_distance: float
    inverse_temperature: float
    held_out: NDArray[np.float64]


def _choose_shrinkage(points: Array, features: int, clips: LabelledClips, progress: Callable[[], None]) -> _Choice:
    """Cross-fits with each shrinkage, and returns the one with the largest likelihood of the true classes."""
    held = np.flatnonzero(clips.in_parts)
    labels, parts = clips.labels[held], []
    for part in clips.parts:
        fitted, out = clips.part_of != part, np.flatnonzero(clips.part_of[held] == part)
        parts.append((out, _ClassMeans.of(points[fitted], clips.labels[fitted], features)))
        progress()
    best: _Choice | None = None
    for shrinkage in SHRINKAGES:
        distances = []
        for out, means in parts:
            new, whitened = _whitened(points[held[out]], means, shrinkage)
            distances.append(whitened.own_distances(new, labels[out]))
        own_distance = float(np.concatenate(distances).mean())
        scores = np.full((len(held), clips.classes), -np.inf)
        for out, means in parts:  # whitened again, as the whitened means of all parts would take much memory
            new, whitened = _whitened(points[held[out]], means, shrinkage)
            scores[np.ix_(out, whitened.present)] = new @ whitened.weights(own_distance) + whitened.bias(own_distance)
        factor = fit_inverse_temperature(scores, labels)
        scores *= factor
        log_q = floored_log_softmax(scores)
        loss = -float(log_q[np.arange(len(log_q)), labels].mean())
        if best is None or loss < best.loss:
            best = _Choice(loss, shrinkage, own_distance, factor, log_q)
    assert best is not None
    return best


def _whitened(points: Array, means: _ClassMeans, shrinkage: float | None) -> tuple[Array, _WhitenedMeans]:
    covariance = means.scatter.shrunk(shrinkage)
    return covariance.whiten(points), means.whiten(covariance)


@dataclass(frozen=True, eq=False)
class _ClassMeans:
    """Class means, and the covariance within classes."""

    present: NDArray[np.intp]
    """The C' classes that have clips."""
    counts: NDArray[np.intp]
    """Clips of each, (C',)."""
    means: NDArray[np.float64]
    """(C', R)."""
    scatter: Scatter

    @staticmethod
    def of(points: Array, labels: NDArray[np.integer], features: int) -> _ClassMeans:
        present, means, residuals = class_means(points, labels)
        return _ClassMeans(present, np.bincount(labels)[present], means, scatter(residuals, features))

    def whiten(self, covariance: ShrunkCovariance) -> _WhitenedMeans:
        return _WhitenedMeans(self.present, self.counts, covariance.whiten(self.means))


@dataclass(frozen=True, eq=False)
class _WhitenedMeans:
    """Class means in whitened coordinates. Their squared distances are those under the inverse of Σ."""

    present: NDArray[np.intp]
    counts: NDArray[np.intp]
    means: NDArray[np.float64]

    def own_distances(self, new: Array, labels: NDArray[np.integer]) -> NDArray[np.float64]:
        """Returns squared distances of clips from the mean of their class. Clips of classes without mean are left out.

        The mean of n clips differs from the true mean by chance. Dividing by 1 + 1/n corrects for it.
        """
        clips, columns = np.nonzero(labels[:, None] == self.present)
        squared: NDArray[np.float64] = ((new[clips] - self.means[columns]) ** 2).sum(axis=1)
        return squared / (1 + 1 / self.counts[columns])

    def weights(self, own_distance: float) -> NDArray[np.float64]:
        """Returns the weights of whitened coordinates before the temperature, (R, C')."""
        _, offsets, factor = self._terms(own_distance)
        weights: NDArray[np.float64] = 2 * (factor[:, None] * offsets).T
        return weights

    def bias(self, own_distance: float) -> NDArray[np.float64]:
        """Returns the bias before the temperature, (C',)."""
        centre, offsets, factor = self._terms(own_distance)
        chance = own_distance * (1 / self.counts - 1 / self.counts.sum())
        bias: NDArray[np.float64] = factor * (chance - (offsets**2).sum(axis=1) - 2 * offsets @ centre)
        return bias

    def _terms(self, own_distance: float) -> tuple[Array, Array, Array]:
        """Returns m, m_c - m and f_c."""
        clips = self.counts.sum()
        centre = np.average(self.means, axis=0, weights=self.counts)
        offsets = self.means - centre
        factor = np.ones(len(self.means))
        if own_distance > 0 and len(self.means) > 1:
            between = (self.counts * (offsets**2).sum(axis=1)).sum() - (len(self.means) - 1) * own_distance
            variance = max(0.0, float(between / (clips - (self.counts**2).sum() / clips)))  # τ²
            factor = np.sqrt((variance + own_distance / self.counts.max()) / (variance + own_distance / self.counts))
        return centre, offsets, factor


def _in_channels(
    weights: Array, bias: Array, present: NDArray[np.intp], standardiser: Standardiser, span: ClipSpan
) -> Discriminant:
    """Turns weights of the coordinates in the clips' space into weights of the logarithms of each channel.

    Shape:
        - weights: (R, C')
        - bias: (C,)
        - present: (C',)
    """
    classes, bias = len(bias), bias.copy()
    floors: dict[str, float] = {}
    by_layer: dict[str, NDArray[np.float32]] = {}
    first = 0
    for layer, (floor, mean, scale) in standardiser.layers.items():
        columns = slice(first, first + len(mean))
        floors[layer], by_layer[layer] = floor, np.zeros((len(mean), classes), np.float32)
        for some in blocks(classes, len(mean), _BLOCK):
            standardised = np.zeros((len(mean), some.stop - some.start))
            begin, end = np.searchsorted(present, [some.start, some.stop])
            own = weights[:, begin:end]
            standardised[:, present[begin:end] - some.start] = (
                own[columns] if span.basis is None else span.basis[columns] @ own
            )
            bias[some] -= span.centre[columns] @ standardised
            unscaled = standardised * scale[:, None]
            bias[some] -= mean @ unscaled
            by_layer[layer][:, some] = unscaled
        first += len(mean)
    return Discriminant(floors, by_layer, bias)
