"""The rule ``fused``: what the network says and what its layers say, as one probability for each class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.fitting import conditional_logit
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.fitting.cross_fitting import cross_fit
from gramcli.rule.class_size import SizeCorrection

Array = NDArray[Any]

FLOOR = 0.1
"""η. A deviation far below the expected one counts no less than a tenth of the expected one."""

RIDGES = (0.1, 1.0, 10.0, 100.0)
"""Strengths of the ridge that pulls the layers' weights together. Cross-fitted likelihood chooses one."""

_LEAST = 1e-6
"""Smallest weight of a layer. Where validation clips taught nothing, layers still decide what would be a tie; otherwise
the order of the classes would decide."""

_WEAK_RIDGE = 1e-3
"""Ridge of weights that nothing else holds, so that separable clips do not send them to infinity."""


@dataclass(frozen=True, eq=False)
class Fusion:
    r"""Weights of the rule: s_c = a log p_c + b log q_c - Σ_l w_l z_{l,c}; the softmax of s is the probability of c.

    p is the network's probability, q that of the discriminant (`gramcli.rule.discriminant`), and z_{l,c} the evidence
    of layer l (`evidence`). The logarithm in z keeps one layer from deciding about a strange clip: far outside all
    bounds only ratios between classes count. Where classes differ in size, the layers speak as if all classes were
    equally frequent; how frequent the network takes them to be is part of its log p.
    """

    weights: NDArray[np.float64]
    """w_l > 0, (L,)."""
    joint: float = 0.0
    """b ≥ 0. It is 0 where the discriminant adds nothing, or where there is none."""
    trust: float = 0.0
    """a ≥ 0. It is 0 where the network's log p adds nothing, or where its outputs are not the classes."""
    ridge: float = 0.0
    """Strength of the ridge that was chosen."""

    def scores(self, evidence: Array, log_p: Array | None = None, log_q: Array | None = None) -> NDArray[np.float64]:
        """Returns s_c; higher is more like the class.

        Args:
            evidence: z of the layers.
            log_p: Log-probabilities of the network; None where its outputs are not the classes.
            log_q: Log-probabilities of the discriminant; None where there is none.

        Shape:
            - evidence: (N, L, C)
            - log_p, log_q: (N, C)
            - returns: (N, C)
        """
        total: NDArray[np.float64] = -np.einsum("nlc,l->nc", evidence, self.weights)
        for weight, log_probability in ((self.trust, log_p), (self.joint, log_q)):
            if log_probability is not None:
                total += weight * np.asarray(log_probability, np.float64)
        return total


def evidence(deviations: Array, expected: Array, correction: SizeCorrection | None = None) -> NDArray[np.float64]:
    """Returns z = log(η + δ_l / E_l), corrected for the sizes of the classes if a correction is given.

    Raises:
        ValueError: Some E_l is not positive. Leave such layers out; they say nothing.

    Shape:
        - deviations, returns: (N, L, C)
        - expected: (L,)
    """
    if not (np.isfinite(expected).all() and (expected > 0).all()):
        raise ValueError("an expected deviation is not positive: leave such layers out")
    logged: NDArray[np.float64] = np.log(FLOOR + np.asarray(deviations, np.float64) / expected[:, None])
    return logged if correction is None else correction.apply(logged)


def fit(evidence: Array, labels: NDArray[np.integer], ridge: float, *, uneven: bool = False) -> Fusion:
    """Fits the weights w_l: first one weight for all layers, then one for each layer, pulled towards it by the ridge.

    Args:
        evidence: z of clips that did not set the bounds.
        labels: True classes.
        ridge: How strongly the weights are held together.
        uneven: Whether classes differ in size, so that class frequencies are partialled out; see `_frequency`.

    Returns:
        A rule with neither the network nor a discriminant in it.

    Shape:
        - evidence: (N, L, C)
        - labels: (N,)
    """
    support = -evidence.transpose(0, 2, 1)
    _, classes, layers = support.shape
    beside = [_frequency(labels, classes)[..., None]] if uneven else []
    *first, common = conditional_logit.fit(
        np.concatenate([*beside, support.mean(axis=2, keepdims=True)], axis=2), labels, ridge=_WEAK_RIDGE
    )
    weights = conditional_logit.fit(
        np.concatenate([*beside, support], axis=2),
        labels,
        ridge=np.array([_WEAK_RIDGE] * len(first) + [ridge] * layers),
        centre=np.array([*first, *[common / layers] * layers]),
    )[len(first) :]
    return Fusion(np.maximum(weights, _LEAST), ridge=ridge)


def _frequency(labels: NDArray[np.integer], classes: int) -> NDArray[np.float64]:
    """Returns log(n_c + 1/2), how frequent each class is, as evidence for it, (N, C).

    It is fitted beside the rest where classes differ in size, and dropped afterwards. Without it the weights would have
    to explain how rare a class is among these clips, by layers on which it happens to look strange.
    """
    logged = np.log(np.bincount(labels, minlength=classes) + 0.5)
    return np.broadcast_to(logged, (len(labels), classes))


@dataclass(frozen=True, eq=False)
class FittedFusion:
    """A rule fitted on all clips, and the scores of clips from rules fitted without their part."""

    fusion: Fusion
    held_out: NDArray[np.float64]
    """Log-probability of each class from weights that had not seen the clip's group, (N, C). Ridge and shares were
    chosen on these scores, so their accuracy flatters. NaN for clips without log q."""


def choose(
    evidence_from: Callable[[NDArray[np.bool_]], Array],
    labels: NDArray[np.integer],
    part_of: NDArray[np.intp],
    *,
    uneven: bool = False,
    log_q: Array | None = None,
    log_p: Array | None = None,
) -> FittedFusion:
    """Fits the weights whose ridge does best on clips held out, and the shares of discriminant and network.

    Each part of the clips is scored by weights fitted on the other parts, which also give E_l and the size correction.
    The ridge of best likelihood is taken, the strongest of equals. The shares of these scores, of log q and of log p
    are fitted on the same clips; see `_shares`. Then the weights are fitted again on all clips.

    Args:
        evidence_from: Returns z of all clips, with E_l and size correction learnt from those that a mask chooses.
        labels: True classes.
        part_of: Part of each clip, as `deal_parts` deals them.
        uneven: Whether classes differ in size; see `fit`.
        log_q: Log-probabilities of discriminants that were not fitted on the clip, or None; NaN where there are none.
        log_p: Log-probabilities of the network, which was not trained on the clips, or None.

    Shape:
        - z, as returned by `evidence_from`: (N, L, C)
        - log_p, log_q: (N, C)
        - labels, part_of: (N,)
    """
    everything = np.ones(len(labels), bool)
    whole = evidence_from(everything)
    beside = [_frequency(labels, whole.shape[2])] if uneven else []
    best: tuple[float, float, NDArray[np.float64]] | None = None
    for ridge in sorted(RIDGES, reverse=True):

        def scores(seen: NDArray[np.bool_], held: NDArray[np.bool_], ridge: float = ridge) -> NDArray[np.float64]:
            there = evidence_from(seen)
            return fit(there[seen], labels[seen], ridge, uneven=uneven).scores(there[held])

        held_out = cross_fit(part_of, scores)
        # score ridges with the class frequencies partialled out
        loss = -_weigh([held_out], beside, labels)[1] if uneven else -_log_likelihood(held_out, labels)
        if best is None or loss < best[0]:
            best = loss, ridge, held_out
    assert best is not None
    _, ridge, held_out = best
    zero = np.zeros_like(held_out)
    parts = [held_out, *(zero if one is None else np.asarray(one, np.float64) for one in (log_q, log_p))]
    known = np.isfinite(parts).all(axis=(0, 2))
    shares = _shares([one[known] for one in parts], [one[known] for one in beside], labels[known])
    rule = fit(whole, labels, ridge, uneven=uneven)
    rule = replace(rule, weights=rule.weights * shares[0], joint=float(shares[1]), trust=float(shares[2]))
    return FittedFusion(rule, log_softmax(np.einsum("snc,s->nc", parts, shares)))


def _shares(parts: list[Array], beside: list[Array], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Returns the factor of each part of the score: of the first always, of each other if it is worth a parameter.

    A part is worth it if the labels become likelier by more than one nat (Akaike 1974). Otherwise its factor is 0: what
    it seems to add on few clips is mostly chance, or was already in another part.

    Args:
        parts: Scores of clips held out, the most trusted first.
        beside: Scores that are fitted beside them and dropped.
        labels: True classes.

    Shape:
        - parts, beside: (N, C) each
        - labels: (N,)
        - returns: (S,)
    """
    shares = np.zeros(len(parts))
    chosen = [0]
    weights, likelihood = _weigh([parts[0]], beside, labels)
    for n in range(1, len(parts)):
        more, likelier = _weigh([parts[m] for m in (*chosen, n)], beside, labels)
        if likelier - likelihood > 1:
            chosen, weights, likelihood = [*chosen, n], more, likelier
    shares[chosen] = weights
    # never 0, so that the order of classes does not decide where no part is of use
    shares[0] = max(shares[0], _WEAK_RIDGE)
    return shares


def _weigh(parts: list[Array], beside: list[Array], labels: NDArray[np.integer]) -> tuple[NDArray[np.float64], float]:
    """Returns the factors of some parts, and the log-likelihood of the labels under them, in nats."""
    scores = np.stack([*parts, *beside], axis=2)
    centre = np.array([1.0 / len(parts)] * len(parts) + [0.0] * len(beside))
    weights = conditional_logit.fit(scores, labels, ridge=_WEAK_RIDGE, centre=centre)
    return weights[: len(parts)], _log_likelihood(scores @ weights, labels)


def _log_likelihood(scores: Array, labels: NDArray[np.integer]) -> float:
    return float(log_softmax(scores)[np.arange(len(labels)), labels].sum())
