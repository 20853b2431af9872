"""What the network says and what its layers say, as one probability a class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.decide import likelihood
from gramcli.decide.class_size import Levelling
from gramcli.decide.crossfit import crossfit
from gramcli.decide.likelihood import log_softmax

Array = NDArray[Any]

FLOOR = 0.1
"""η: a deviation far below the usual one says no more than one of a tenth of it."""

RIDGES = (0.1, 1.0, 10.0, 100.0)
"""Strengths that hold the layers' weights together, tried by cross-fitted likelihood."""

_LEAST = 1e-6
"""Least weight of a layer where classes differ in size: where validation taught nothing, layers decide what would be a
tie, and not the order of the classes, by which one of them would vanish."""

_FAINT = 1e-3
"""Ridge of weights that nothing else holds, so that separable clips do not send them to infinity."""


@dataclass(frozen=True, eq=False)
class Fusion:
    r"""A fitted rule: s_c = a log p_c + b log q_c - Σ_l w_l z_{l,c}; its softmax is the probability of c.

    p is the network's, q what all layers say together (`gramcli.decide.discriminant`), and z_{l,c} = log(η +
    δ_{l,c} / E_l), brought to one class size where classes differ in it (`Levelling`).

    The logarithm is what keeps a strange clip from being decided by one layer: far outside all bounds only ratios
    between classes count. Where classes differ in size, the layers speak as if all were equally frequent; how frequent
    the network takes them to be is in its log p.
    """

    trust: float
    """a of the network's log p; 0 where its outputs are not the classes."""
    weights: NDArray[np.float64]
    """w_l ≥ 0, (L,)."""
    expected: NDArray[np.float64]
    """E_l, (L,)."""
    joint: float = 0.0
    """b ≥ 0; 0 where nothing was learnt of all layers together."""
    ridge: float = 0.0
    """Strength that was chosen."""
    levelling: Levelling | None = None
    """None where classes are of equal size."""

    def scores(self, deviations: Array, log_p: Array | None, log_q: Array | None = None) -> NDArray[np.float64]:
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


def evidence(deviations: Array, expected: Array, levelling: Levelling | None = None) -> NDArray[np.float64]:
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
    log_p: Array | None,
    labels: NDArray[np.integer],
    expected: NDArray[np.float64],
    ridge: float,
    levelling: Levelling | None = None,
) -> Fusion:
    """Fits a and w_l: first one weight for all layers, then each layer's own, held near it by the ridge.

    Args:
        deviations: δ of clips that did not set the bounds.
        log_p: Log-probabilities of the network on them, or None.
        labels: True classes.
        expected: E_l, positive.
        ridge: How strongly the weights are held together.
        levelling: What brings classes to one size, or None.

    Shape:
        - deviations: (N, L, C)
        - log_p: (N, C)
        - labels: (N,)
        - expected: (L,)
    """
    spoken = -evidence(deviations, expected, levelling).transpose(0, 2, 1)
    _, classes, layers = spoken.shape
    beside = [] if log_p is None else [np.asarray(log_p, np.float64)[..., None]]
    if levelling is not None:
        beside.append(_frequency(labels, classes))
    common = likelihood.fit(np.concatenate([*beside, spoken.mean(axis=2, keepdims=True)], axis=2), labels, ridge=_FAINT)
    first, each = common[:-1], common[-1] / layers
    weights = likelihood.fit(
        np.concatenate([*beside, spoken], axis=2),
        labels,
        ridge=np.array([_FAINT] * len(first) + [ridge] * layers),
        centre=np.array([*first, *[each] * layers]),
    )
    a, own = 0.0 if log_p is None else float(weights[0]), weights[len(first) :]
    if levelling is not None:
        own = np.maximum(own, _LEAST)
    return Fusion(a, own, np.asarray(expected, np.float64), ridge=ridge, levelling=levelling)


def _frequency(labels: NDArray[np.integer], classes: int) -> NDArray[np.float64]:
    """Returns how frequent each class is as evidence for it, log(n_c + 1/2), (N, C, 1).

    It is fitted beside the rest where classes differ in size, and dropped. Without it the weights would have to explain
    how rare a class is among these clips, by layers on which it happens to look strange.
    """
    logged = np.log(np.bincount(labels, minlength=classes) + 0.5)
    return np.broadcast_to(logged, (len(labels), classes))[..., None]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A rule fitted on all clips, and what was learnt by holding parts of them out."""

    fusion: Fusion
    held_out: NDArray[np.float64]
    """Log-probability of each class from a rule that had not seen the clip's group, (N, C); NaN for clips of which the
    discriminant says nothing."""


def choose(
    deviations: Array,
    log_p: Array | None,
    labels: NDArray[np.integer],
    part_of: NDArray[np.intp],
    expect: Callable[[NDArray[np.bool_]], NDArray[np.float64]],
    level: Callable[[NDArray[np.bool_], NDArray[np.float64]], Levelling | None] = lambda clips, expected: None,
    log_q: Array | None = None,
) -> Fitted:
    """Fits the rule whose ridge does best on clips held out, and gives it the sharpness that they show.

    Each part of the clips is scored by a rule fitted on the others, their E_l and levelling included; the ridge of best
    likelihood is taken (the strongest of equals). How much these scores count, and what the discriminant says beside
    them, are two more weights of best likelihood. Then the rule is fitted again on all clips.

    Args:
        deviations: δ of clips that did not set the bounds.
        log_p: Log-probabilities of the network on them, or None.
        labels: True classes.
        part_of: Part of each clip, as `parts` deals them.
        expect: Returns E_l from some of the clips, (L,), positive.
        level: Returns what brings classes to one size, from some of the clips and their E_l.
        log_q: What a discriminant says of clips that it was not fitted on, or None; NaN where it says nothing.

    Shape:
        - deviations: (N, L, C)
        - log_p, log_q: (N, C)
        - labels, part_of: (N,)
    """

    def fitted(clips: NDArray[np.bool_], ridge: float) -> Fusion:
        expected = expect(clips)
        own = None if log_p is None else log_p[clips]
        return fit(deviations[clips], own, labels[clips], expected, ridge, level(clips, expected))

    def score(rule: Fusion, clips: NDArray[np.bool_]) -> NDArray[np.float64]:
        return rule.scores(deviations[clips], None if log_p is None else log_p[clips])

    everything = np.ones(len(labels), bool)
    uneven = level(everything, expect(everything)) is not None
    beside = [_frequency(labels, deviations.shape[2])] if uneven else []
    centre = np.array([1.0] + [0.0] * len(beside))
    best: tuple[float, float, NDArray[np.float64]] | None = None
    for ridge in sorted(RIDGES, reverse=True):
        held_out = crossfit(part_of, lambda seen, held, ridge=ridge: score(fitted(seen, ridge), held))  # type: ignore[misc]
        said = np.concatenate([held_out[..., None], *beside], axis=2)
        # the frequency of classes is not to be a reason for a ridge
        shares = likelihood.fit(said, labels, ridge=_FAINT, centre=centre) if uneven else centre
        loss = -log_softmax(said @ shares)[np.arange(len(labels)), labels].mean()
        if best is None or loss < best[0]:
            best = loss, ridge, held_out
    assert best is not None
    _, ridge, held_out = best
    told = np.stack([held_out, np.zeros_like(held_out) if log_q is None else log_q], axis=2)
    heard = np.isfinite(told).all(axis=(1, 2))
    shares = _shares(np.concatenate([told, *beside], axis=2)[heard], labels[heard])
    rule = fitted(everything, ridge)
    rule = replace(rule, trust=float(rule.trust * shares[0]), weights=rule.weights * shares[0], joint=float(shares[1]))
    return Fitted(rule, log_softmax(told @ shares))


def _shares(told: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Returns what the rule and the discriminant count; the latter nothing if that is not worth a parameter.

    It is worth one if it makes the labels likelier by more than half a log N (Schwarz 1978).

    Args:
        told: What both say of clips held out, and anything else that is to be explained beside them.
        labels: True classes.

    Shape:
        - told: (N, C, 2 or more)
        - labels: (N,)
        - returns: (2,)
    """
    clips, rest = len(labels), [0.0] * (told.shape[2] - 2)
    alone, both = told[..., [0, *range(2, told.shape[2])]], told
    one = likelihood.fit(alone, labels, ridge=_FAINT, centre=np.array([1.0, *rest]))
    two = likelihood.fit(both, labels, ridge=_FAINT, centre=np.array([0.5, 0.5, *rest]))

    def likely(said: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
        return float(log_softmax(said @ weights)[np.arange(clips), labels].sum())

    worth = likely(both, two) - likely(alone, one) > np.log(clips) / 2
    own, joint = (two[0], two[1]) if worth else (one[0], 0.0)
    # never quite silent, so that no order of classes decides where neither network nor layers are of use
    return np.array([max(own, _FAINT), joint])
