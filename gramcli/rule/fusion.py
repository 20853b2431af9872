"""The rule ``fused``: weighs the evidence of the layers, the network and the discriminant into class probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.blocks import blocks
from gramcli.fitting import conditional_logit
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.fitting.cross_fitting import LabelledClips, cross_fit
from gramcli.rule.class_size import SizeCorrection
from gramcli.rule.source_weights import WEAK_RIDGE, fit_sources, log_likelihood, source_weights

Array = NDArray[Any]

FLOOR = 0.1
"""η of the evidence log(η + δ_l / E_l). So evidence cannot fall below the logarithm of a tenth of the expected
deviation."""

RIDGES = (0.1, 1.0, 10.0, 100.0)
"""Ridges that are tried. A ridge pulls the layers' weights towards one common weight."""

_MIN_WEIGHT = 1e-6
"""Smallest weight of a layer. If no layer separated the validation clips, all scores would be equal without it, and the
first class would always win."""

BLOCK = 1 << 22
"""Numbers of evidence that are computed at a time, 32 MiB."""


@dataclass(frozen=True, eq=False)
class Fusion:
    r"""Weights of the score s_c = a log p_c + b log q_c - Σ_l w_l z_{l,c}. Its softmax is the probability of class c.

    p is the probability from the network, q the probability from the discriminant (`gramcli.rule.discriminant`), and
    z_{l,c} the evidence of layer l (`evidence`). z is a logarithm, so for a clip far outside all bounds only the ratios
    between classes count, and no single layer decides.

    If classes differ in size, the weights w_l are fitted as if all classes were equally frequent. The class frequencies
    then enter through log p only.
    """

    weights: NDArray[np.float64]
    """w_l > 0, (L,)."""
    discriminant_weight: float = 0.0
    """b ≥ 0. It is 0 if the discriminant does not improve the likelihood, or if there is none."""
    network_weight: float = 0.0
    """a ≥ 0. It is 0 if log p does not improve the likelihood, or if the network's outputs are not the classes."""
    ridge: float = 0.0
    """The ridge that was chosen."""

    def scores(self, evidence: Array, log_p: Array | None = None, log_q: Array | None = None) -> NDArray[np.float64]:
        """Returns s_c. Higher means more like the class.

        Args:
            evidence: z of the layers.
            log_p: Log-probabilities of the network; None if its outputs are not the classes.
            log_q: Log-probabilities of the discriminant; None if there is none.

        Shape:
            - evidence: (N, L, C)
            - log_p, log_q: (N, C)
            - returns: (N, C)
        """
        total: NDArray[np.float64] = -np.einsum("nlc,l->nc", evidence, self.weights)
        for weight, log_probability in ((self.network_weight, log_p), (self.discriminant_weight, log_q)):
            if log_probability is not None:
                total += weight * np.asarray(log_probability, np.float64)
        return total


def evidence(deviations: Array, expected: Array, correction: SizeCorrection | None = None) -> NDArray[np.float64]:
    """Returns the evidence z = log(η + δ_l / E_l), with the size correction applied if there is one.

    Raises:
        ValueError: An E_l is not positive. Leave such layers out; they separate nothing.

    Shape:
        - deviations, returns: (N, L, C)
        - expected: E_l, (L,)
    """
    if not (np.isfinite(expected).all() and (expected > 0).all()):
        raise ValueError("an expected deviation is not positive; leave such layers out")
    logged: NDArray[np.float64] = np.log(FLOOR + np.asarray(deviations, np.float64) / expected[:, None])
    return logged if correction is None else correction.apply(logged)


def fit(evidence: Array, labels: NDArray[np.integer], ridge: float, *, uneven: bool = False) -> Fusion:
    """Fits the weights w_l.

    First one common weight for all layers is fitted. Then each layer gets its own weight, which the ridge pulls towards
    the common weight.

    Args:
        evidence: z of clips on which the bounds do not depend.
        labels: True classes.
        ridge: Strength of the ridge.
        uneven: Whether classes differ in size, so that class frequencies are partialled out; see `_class_frequency`.

    Returns:
        A rule without network and discriminant.

    Shape:
        - evidence: (N, L, C)
        - labels: (N,)
    """
    return _fit_weights(_Support.of(len(labels), lambda rows: evidence[rows], labels, uneven=uneven), labels, ridge)


@dataclass(frozen=True, eq=False)
class _Support:
    """Evidence for the classes in the form that `conditional_logit.fit` takes, larger if a clip is more like a class.

    The first column of both arrays is the frequency of the classes if they differ in size; see `_class_frequency`.
    """

    layers: NDArray[np.float64]
    """-z of each layer, (N, C, L) or (N, C, 1 + L)."""
    mean: NDArray[np.float64]
    """Mean of -z over the layers, (N, C, 1) or (N, C, 2)."""

    @property
    def first(self) -> int:
        """Column of the first layer."""
        return int(self.mean.shape[2]) - 1

    @staticmethod
    def of(clips: int, evidence_of: Callable[[slice], Array], labels: NDArray[np.integer], *, uneven: bool) -> _Support:
        """Collects the evidence of clips block by block, so that it is in memory once.

        Args:
            clips: N.
            evidence_of: Returns z of a range of clips, (N', L, C).
            labels: True classes, (N,).
            uneven: Whether classes differ in size.
        """
        _, layers, classes = evidence_of(slice(0, 0)).shape
        first = int(uneven)
        of_layers, mean = np.empty((clips, classes, first + layers)), np.empty((clips, classes, first + 1))
        for rows in blocks(clips, layers * classes, BLOCK):
            support = -evidence_of(rows)
            of_layers[rows, :, first:] = support.transpose(0, 2, 1)
            mean[rows, :, first] = support.mean(axis=1)
        if uneven:
            of_layers[:, :, 0] = mean[:, :, 0] = _class_frequency(labels, classes)
        return _Support(of_layers, mean)


def _fit_weights(support: _Support, labels: NDArray[np.integer], ridge: float) -> Fusion:
    first, layers = support.first, support.layers.shape[2] - support.first
    *of_frequency, common = conditional_logit.fit(support.mean, labels, ridge=WEAK_RIDGE)
    weights = conditional_logit.fit(
        support.layers,
        labels,
        ridge=np.array([WEAK_RIDGE] * first + [ridge] * layers),
        centre=np.array([*of_frequency, *[common / layers] * layers]),
    )[first:]
    return Fusion(np.maximum(weights, _MIN_WEIGHT), ridge=ridge)


def _class_frequency(labels: NDArray[np.integer], classes: int) -> NDArray[np.float64]:
    """Returns log(n_c + 1/2), the frequency of each class among the clips, as evidence for it, (N, C).

    If classes differ in size, a weight of it is fitted with the other weights and then dropped. Without it, a layer
    would get a wrong weight because its evidence happens to be larger for a rare class.
    """
    logged = np.log(np.bincount(labels, minlength=classes) + 0.5)
    return np.broadcast_to(logged, (len(labels), classes))


@dataclass(frozen=True, eq=False)
class FittedFusion:
    """A rule fitted on all clips, and cross-fitted scores of these clips."""

    fusion: Fusion
    held_out: NDArray[np.float64]
    """Log-probability of each class, from layer weights fitted without the clip's part, (N, C). NaN for clips without
    log q. The ridge and the weights of score, discriminant and network were chosen on these very scores, so their
    accuracy is optimistic."""


def choose(
    evidence_from: Callable[[NDArray[np.bool_], NDArray[np.intp]], Array],
    clips: LabelledClips,
    *,
    uneven: bool = False,
    log_q: Array | None = None,
    log_p: Array | None = None,
) -> FittedFusion:
    """Chooses the ridge by cross-fitting, then fits the weights of layers, discriminant and network.

    Each part of the clips is scored by layer weights fitted on the other parts. The ridge whose scores have the largest
    likelihood is chosen; the largest of several. The weights of these scores, of log q and of log p are fitted on the
    cross-fitted scores; see `gramcli.rule.source_weights`. Then the layer weights are fitted again on all clips.

    Args:
        evidence_from: Returns z of some clips, given by their indices, with E_l and size correction fitted on the clips
            of a mask.
        clips: Labels and parts of the clips.
        uneven: Whether classes differ in size; see `fit`.
        log_q: Cross-fitted log-probabilities of the discriminant, or None. NaN for clips that have none.
        log_p: Log-probabilities of the network, which was not trained on the clips, or None.

    Shape:
        - z, as returned by `evidence_from`: (N', L, C)
        - log_p, log_q: (N, C)
    """
    labels, classes = clips.labels, clips.classes
    frequency = [_class_frequency(labels, classes)] if uneven else []

    def fitted_on(fitted: NDArray[np.bool_], ridge: float) -> Fusion:
        rows = np.flatnonzero(fitted)
        of_rows = _Support.of(len(rows), lambda some: evidence_from(fitted, rows[some]), labels[rows], uneven=uneven)
        return _fit_weights(of_rows, labels[rows], ridge)

    def scored_by(fitted: NDArray[np.bool_], held: NDArray[np.bool_], ridge: float) -> NDArray[np.float64]:
        fusion, rows = fitted_on(fitted, ridge), np.flatnonzero(held)
        scores = np.empty((len(rows), classes))
        for some in blocks(len(rows), len(fusion.weights) * classes, BLOCK):
            scores[some] = fusion.scores(evidence_from(fitted, rows[some]))
        return scores

    best: tuple[float, float, NDArray[np.float64]] | None = None
    for ridge in sorted(RIDGES, reverse=True):
        held_out = cross_fit(clips.part_of, partial(scored_by, ridge=ridge))
        # score ridges with the class frequencies partialled out
        loss = -fit_sources([held_out], frequency, labels)[1] if uneven else -log_likelihood(held_out, labels)
        if best is None or loss < best[0]:
            best = loss, ridge, held_out
    assert best is not None
    _, ridge, held_out = best
    zero = np.broadcast_to(0.0, held_out.shape)
    sources = [held_out, *(zero if one is None else np.asarray(one, np.float64) for one in (log_q, log_p))]
    complete = np.all([np.isfinite(one).all(axis=1) for one in sources], axis=0)
    if complete.all():
        weights = source_weights(sources, frequency, labels)
    else:
        weights = source_weights(
            [one[complete] for one in sources], [one[complete] for one in frequency], labels[complete]
        )
    fusion = fitted_on(np.ones(len(labels), bool), ridge)
    fusion = replace(
        fusion,
        weights=fusion.weights * weights[0],
        discriminant_weight=float(weights[1]),
        network_weight=float(weights[2]),
    )
    pooled = np.empty_like(held_out)
    for rows in blocks(len(labels), len(sources) * classes, BLOCK):
        pooled[rows] = log_softmax(np.einsum("snc,s->nc", [one[rows] for one in sources], weights))
    return FittedFusion(fusion, pooled)
