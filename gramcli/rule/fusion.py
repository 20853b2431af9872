"""What the network says and what its layers say, as one probability a class."""

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
"""η: a deviation far below the usual one says no more than one of a tenth of it."""

RIDGES = (0.1, 1.0, 10.0, 100.0)
"""Strengths that hold the layers' weights together, tried by cross-fitted likelihood."""

_LEAST = 1e-6
"""Least weight of a layer: where validation taught nothing, layers decide what would be a tie, and not the order of the
classes, by which one of them would vanish."""

_FAINT = 1e-3
"""Ridge of weights that nothing else holds, so that separable clips do not send them to infinity."""


@dataclass(frozen=True, eq=False)
class Fusion:
    r"""A fitted rule: s_c = a log p_c + b log q_c - Σ_l w_l z_{l,c}; its softmax is the probability of c.

    p is the network's, q what all layers say together (`gramcli.rule.discriminant`), and z_{l,c} = log(η +
    δ_{l,c} / E_l), brought to one class size where classes differ in it (`SizeCorrection`).

    The logarithm is what keeps a strange clip from being decided by one layer: far outside all bounds only ratios
    between classes count. Where classes differ in size, the layers speak as if all were equally frequent; how frequent
    the network takes them to be is in its log p.
    """

    weights: NDArray[np.float64]
    """w_l > 0, (L,)."""
    expected: NDArray[np.float64]
    """E_l, (L,)."""
    joint: float = 0.0
    """b ≥ 0; 0 where the discriminant adds nothing, or there is none."""
    trust: float = 0.0
    """a ≥ 0; 0 where the network's own log p adds nothing to its layers, or its outputs are not the classes."""
    ridge: float = 0.0
    """Strength that was chosen."""
    levelling: SizeCorrection | None = None
    """None where classes are of equal size."""

    def scores(self, deviations: Array, log_p: Array | None = None, log_q: Array | None = None) -> NDArray[np.float64]:
        """Returns s_c; higher is more like the class.

        Args:
            deviations: δ of the layers.
            log_p: Log-probabilities of the network; None where its outputs are not the classes.
            log_q: Log-probabilities of the discriminant; None where there is none.

        Shape:
            - deviations: (N, L, C)
            - log_p, log_q: (N, C)
            - returns: (N, C)
        """
        total: NDArray[np.float64] = -np.einsum(
            "nlc,l->nc", evidence(deviations, self.expected, self.levelling), self.weights
        )
        for weight, told in ((self.trust, log_p), (self.joint, log_q)):
            if told is not None:
                total += weight * np.asarray(told, np.float64)
        return total


def evidence(deviations: Array, expected: Array, levelling: SizeCorrection | None = None) -> NDArray[np.float64]:
    """Returns log(η + δ_l / E_l), brought to one class size where a levelling is given.

    Raises:
        ValueError: Some E_l is not positive: such a layer says nothing.

    Shape:
        - deviations, returns: (N, L, C)
        - expected: (L,)
    """
    if not (np.isfinite(expected).all() and (expected > 0).all()):
        raise ValueError("an expected deviation is not positive: leave such layers out")
    logged: NDArray[np.float64] = np.log(FLOOR + np.asarray(deviations, np.float64) / expected[:, None])
    return logged if levelling is None else levelling.apply(logged)


def fit(
    deviations: Array,
    labels: NDArray[np.integer],
    expected: NDArray[np.float64],
    ridge: float,
    levelling: SizeCorrection | None = None,
) -> Fusion:
    """Fits the weights w_l: first one for all layers, then each layer's own, held near it by the ridge.

    Args:
        deviations: δ of clips that did not set the bounds.
        labels: True classes.
        expected: E_l, positive.
        ridge: How strongly the weights are held together.
        levelling: What brings classes to one size, or None.

    Returns:
        A rule that hears neither the network nor a discriminant.

    Shape:
        - deviations: (N, L, C)
        - labels: (N,)
        - expected: (L,)
    """
    spoken = -evidence(deviations, expected, levelling).transpose(0, 2, 1)
    _, classes, layers = spoken.shape
    beside = [] if levelling is None else [_frequency(labels, classes)]
    *first, common = conditional_logit.fit(
        np.concatenate([*beside, spoken.mean(axis=2, keepdims=True)], axis=2), labels, ridge=_FAINT
    )
    weights = conditional_logit.fit(
        np.concatenate([*beside, spoken], axis=2),
        labels,
        ridge=np.array([_FAINT] * len(first) + [ridge] * layers),
        centre=np.array([*first, *[common / layers] * layers]),
    )[len(first) :]
    # never quite silent, so that no order of classes decides where layers are of no use
    own = np.maximum(weights, _LEAST)
    return Fusion(own, np.asarray(expected, np.float64), ridge=ridge, levelling=levelling)


def _frequency(labels: NDArray[np.integer], classes: int) -> NDArray[np.float64]:
    """Returns how frequent each class is as evidence for it, log(n_c + 1/2), (N, C, 1).

    It is fitted beside the rest where classes differ in size, and dropped. Without it the weights would have to explain
    how rare a class is among these clips, by layers on which it happens to look strange.
    """
    logged = np.log(np.bincount(labels, minlength=classes) + 0.5)
    return np.broadcast_to(logged, (len(labels), classes))[..., None]


@dataclass(frozen=True, eq=False)
class FittedFusion:
    """A rule fitted on all clips, and what was learnt by holding parts of them out."""

    fusion: Fusion
    held_out: NDArray[np.float64]
    """Log-probability of each class from a rule that had not seen the clip's group, (N, C); NaN for clips of which the
    discriminant says nothing."""


def choose(
    deviations: Array,
    labels: NDArray[np.integer],
    part_of: NDArray[np.intp],
    expect: Callable[[NDArray[np.bool_]], NDArray[np.float64]],
    level: Callable[[NDArray[np.bool_], NDArray[np.float64]], SizeCorrection | None] = lambda clips, expected: None,
    *,
    log_q: Array | None = None,
    log_p: Array | None = None,
) -> FittedFusion:
    """Fits the weights whose ridge does best on clips held out, and what discriminant and network add to them.

    Each part of the clips is scored by weights fitted on the others, their E_l and levelling included; the ridge of
    best likelihood is taken (the strongest of equals). How much these scores count, and what is said beside them, is
    fitted on the same clips; see `_shares`. Then the weights are fitted again on all clips.

    Args:
        deviations: δ of clips that did not set the bounds.
        labels: True classes.
        part_of: Part of each clip, as `parts` deals them.
        expect: Returns E_l from some of the clips, (L,), positive.
        level: Returns what brings classes to one size, from some of the clips and their E_l.
        log_q: What a discriminant says of clips that it was not fitted on, or None; NaN where it says nothing.
        log_p: Log-probabilities of the network on clips that it was not trained on, or None.

    Shape:
        - deviations: (N, L, C)
        - log_p, log_q: (N, C)
        - labels, part_of: (N,)
    """

    def fitted(clips: NDArray[np.bool_], ridge: float) -> Fusion:
        expected = expect(clips)
        return fit(deviations[clips], labels[clips], expected, ridge, level(clips, expected))

    everything = np.ones(len(labels), bool)
    uneven = level(everything, expect(everything)) is not None
    beside = [_frequency(labels, deviations.shape[2])[..., 0]] if uneven else []
    best: tuple[float, float, NDArray[np.float64]] | None = None
    for ridge in sorted(RIDGES, reverse=True):
        held_out = cross_fit(part_of, lambda seen, held, ridge=ridge: fitted(seen, ridge).scores(deviations[held]))  # type: ignore[misc]
        # the frequency of classes is not to be a reason for a ridge
        loss = -_likely([held_out], beside, labels)[1] if uneven else -_log_likelihood(held_out, labels)
        if best is None or loss < best[0]:
            best = loss, ridge, held_out
    assert best is not None
    _, ridge, held_out = best
    silent = np.zeros_like(held_out)
    voices = [held_out, *(silent if told is None else np.asarray(told, np.float64) for told in (log_q, log_p))]
    heard = np.isfinite(voices).all(axis=(0, 2))
    shares = _shares([told[heard] for told in voices], [one[heard] for one in beside], labels[heard])
    rule = fitted(everything, ridge)
    rule = replace(rule, weights=rule.weights * shares[0], joint=float(shares[1]), trust=float(shares[2]))
    return FittedFusion(rule, log_softmax(np.einsum("snc,s->nc", voices, shares)))


def _shares(voices: list[Array], beside: list[Array], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Returns how much each voice counts: the first always, each of the others if it is worth a parameter.

    That is if the labels become likelier by more than one nat (Akaike 1974). Otherwise it counts 0: of few clips, what
    a voice seems to add is mostly chance, and one that has been heard through another already adds nothing.

    Args:
        voices: Scores of clips held out, the most trusted first.
        beside: What is to be explained too, and does not count.
        labels: True classes.

    Shape:
        - voices, beside: (N, C) each
        - labels: (N,)
        - returns: (S,)
    """
    shares = np.zeros(len(voices))
    chosen = [0]
    weights, likely = _likely([voices[0]], beside, labels)
    for n in range(1, len(voices)):
        more, likelier = _likely([voices[m] for m in (*chosen, n)], beside, labels)
        if likelier - likely > 1:
            chosen, weights, likely = [*chosen, n], more, likelier
    shares[chosen] = weights
    # never quite silent, so that no order of classes decides where no voice is of use
    shares[0] = max(shares[0], _FAINT)
    return shares


def _likely(voices: list[Array], beside: list[Array], labels: NDArray[np.integer]) -> tuple[NDArray[np.float64], float]:
    """Returns the weights of some voices, and the log-likelihood of the labels under them, in nats."""
    told = np.stack([*voices, *beside], axis=2)
    centre = np.array([1.0 / len(voices)] * len(voices) + [0.0] * len(beside))
    weights = conditional_logit.fit(told, labels, ridge=_FAINT, centre=centre)
    return weights[: len(voices)], _log_likelihood(told @ weights, labels)


def _log_likelihood(scores: Array, labels: NDArray[np.integer]) -> float:
    return float(log_softmax(scores)[np.arange(len(labels)), labels].sum())
