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

from gramcli.fitting.covariance import Scatter, ShrunkCovariance, class_means, scatter
from gramcli.fitting.features import ClipSpan, Standardiser, logged
from gramcli.fitting.temperature import floored_log_softmax, inverse_temperature

Array = NDArray[Any]

SHRINKAGES = (None, 0.01, 0.1, 0.5, 0.9)
"""Ledoit and Wolf's estimate, and others around it."""


@dataclass(frozen=True, eq=False)
class Discriminant:
    r"""Shared-covariance linear discriminant over the logarithms x of ĝ of all layers, standardised by channel.

    $$q_c = \mathrm{softmax}_c\; t f_c \Big(2\,\langle m_c - m,\, x - m\rangle - \lVert m_c - m\rVert^2
    + \kappa \big(\tfrac{1}{n_c} - \tfrac{1}{n}\big)\Big), \qquad
    f_c = \sqrt{\frac{\tau^2 + \kappa / N}{\tau^2 + \kappa / n_c}}$$

    with lengths under the inverse of Σ, the shrunk covariance about the classes' means. m_c is the mean of the n_c
    clips of class c, m that of all n. Where classes are of one size this is the nearer mean. The fewer clips a mean is
    from, the further chance takes it away from all clips, and a class of few would vanish: κ, the squared distance to
    their mean that is usual of clips which have not set it, makes up for that. What chance adds to the scores' spread
    is taken out by f, as if the class had the N clips of the largest; τ² is how far classes lie from m beyond what
    chance makes of it (the method of moments of a one-way random effect, Searle et al. 1992).
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
        return floored_log_softmax(total + self.bias)


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
    standard = Standardiser.fit({layer: raw[~held] for layer, raw in descriptors.items()}, "log")
    vectors = standard.apply(descriptors)
    span, features = ClipSpan.fit(vectors), vectors.shape[1]
    points = span.coordinates(vectors)[0]
    del vectors  # as large as all descriptors
    tried: dict[float | None, list[tuple[Array, Array, _White]]] = {shrinkage: [] for shrinkage in SHRINKAGES}
    for part in np.unique(part_of[held]):
        seen, out = part_of != part, part_of == part
        fitted = _Means.of(points[seen], labels[seen], features)
        for shrinkage, parts in tried.items():
            covariance = fitted.scatter.shrunk(shrinkage)
            parts.append((out, covariance.whiten(points[out]), fitted.white(covariance)))
        progress()
    best: tuple[float, float | None, float, float, Array] | None = None
    for shrinkage, parts in tried.items():
        usual = float(np.concatenate([white.own(new, labels[out]) for out, new, white in parts]).mean())
        scores = np.full((len(labels), classes), -np.inf)
        for out, new, white in parts:
            scores[np.ix_(out, white.present)] = new @ white.weights(usual) + white.bias(usual)
        sharpness = inverse_temperature(scores[held], labels[held])
        told = floored_log_softmax(scores[held] * sharpness)
        loss = -float(told[np.arange(len(told)), labels[held]].mean())
        if best is None or loss < best[0]:
            best = loss, shrinkage, usual, sharpness, told
    assert best is not None
    _, shrinkage, usual, sharpness, told = best
    whole = _Means.of(points, labels, features)
    covariance = whole.scatter.shrunk(shrinkage)
    progress()
    return Learnt(
        _folded(whole.white(covariance), covariance, usual, sharpness, classes, standard, span),
        told,
        shrinkage,
        usual,
        sharpness,
    )


@dataclass(frozen=True, eq=False)
class _Means:
    """Class means and the scatter about them."""

    present: NDArray[np.intp]
    """Classes that have clips."""
    counts: NDArray[np.intp]
    """Clips of each, (C',)."""
    means: NDArray[np.float64]
    """(C', R)."""
    scatter: Scatter

    @staticmethod
    def of(points: Array, labels: NDArray[np.integer], features: int) -> _Means:
        present, means, residuals = class_means(points, labels)
        return _Means(present, np.bincount(labels)[present], means, scatter(residuals, features))

    def white(self, covariance: ShrunkCovariance) -> _White:
        return _White(self.present, self.counts, covariance.whiten(self.means))


@dataclass(frozen=True, eq=False)
class _White:
    """Class means in coordinates whose squared distances are those under Σ."""

    present: NDArray[np.intp]
    counts: NDArray[np.intp]
    means: NDArray[np.float64]

    def own(self, new: Array, labels: NDArray[np.integer]) -> NDArray[np.float64]:
        """Returns how far clips are from the true mean of their class: less what chance adds, clips of others out."""
        clips, columns = np.nonzero(labels[:, None] == self.present)
        far: NDArray[np.float64] = ((new[clips] - self.means[columns]) ** 2).sum(axis=1)
        return far / (1 + 1 / self.counts[columns])

    def weights(self, usual: float) -> NDArray[np.float64]:
        """Returns what a clip is multiplied by, (R, C')."""
        _, away, factor = self._parts(usual)
        weights: NDArray[np.float64] = 2 * (factor[:, None] * away).T
        return weights

    def bias(self, usual: float) -> NDArray[np.float64]:
        """Returns what is added to that, (C',)."""
        middle, away, factor = self._parts(usual)
        chance = usual * (1 / self.counts - 1 / self.counts.sum())
        bias: NDArray[np.float64] = factor * (chance - (away**2).sum(axis=1) - 2 * away @ middle)
        return bias

    def _parts(self, usual: float) -> tuple[Array, Array, Array]:
        """Returns m, m_c - m and f_c."""
        clips = self.counts.sum()
        middle = np.average(self.means, axis=0, weights=self.counts)
        away = self.means - middle
        factor = np.ones(len(self.means))
        if usual > 0 and len(self.means) > 1:
            between = (self.counts * (away**2).sum(axis=1)).sum() - (len(self.means) - 1) * usual
            apart = max(0.0, float(between / (clips - (self.counts**2).sum() / clips)))
            factor = np.sqrt((apart + usual / self.counts.max()) / (apart + usual / self.counts))
        return middle, away, factor


def _folded(
    fitted: _White,
    covariance: ShrunkCovariance,
    usual: float,
    sharpness: float,
    classes: int,
    standard: Standardiser,
    span: ClipSpan,
) -> Discriminant:
    """Returns the same scores, but for what all classes share, as weights of plain logarithms."""
    turned = sharpness * (covariance.vectors / np.sqrt(covariance.values)) @ fitted.weights(usual)
    bias = np.full(classes, -np.inf)
    bias[fitted.present] = sharpness * fitted.bias(usual)
    floors, by_layer, first = {}, {}, 0
    for layer, (floor, mean, scale) in standard.layers.items():
        which = slice(first, first + len(mean))
        weights = np.zeros((len(mean), classes))
        weights[:, fitted.present] = turned[which] if span.basis is None else span.basis[which] @ turned
        bias -= span.centre[which] @ weights
        own = weights * scale[:, None]
        bias -= mean @ own
        floors[layer], by_layer[layer] = floor, own.astype(np.float32)
        first += len(mean)
    return Discriminant(floors, by_layer, bias)
