"""Rescaling of scores by what they say of held-out clips: one temperature, a scale a class, two sources pooled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.fitting import conditional_logit
from gramcli.fitting.conditional_logit import log_softmax

Array = NDArray[Any]

LEAST = 1e-6
"""Share of every probability that is spread over all classes, so that one without clips is not impossible."""

_FAINT = 1e-3


def vector_scaling(
    log_p: NDArray[np.float64], labels: NDArray[np.integer], ridge: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns what to multiply log p by and what to add, class by class, held near one temperature (Guo et al. 2017).

    Shape:
        - log_p: (N, C)
        - labels: (N,)
        - returns: (C,), (C,)
    """
    from scipy.optimize import minimize  # takes a while to import

    clips, classes = log_p.shape
    common = inverse_temperature(log_p, labels)
    truth = np.zeros_like(log_p)
    truth[np.arange(clips), labels] = 1

    def objective(both: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scale, shift = both[:classes], both[classes:]
        told = log_softmax(log_p * common * scale + shift)
        slope = (np.exp(told) - truth) / clips
        away = np.concatenate([scale - 1, shift])
        own = np.concatenate([(slope * log_p * common).sum(axis=0), slope.sum(axis=0)])
        return float(-told[truth == 1].mean() + 0.5 * ridge * (away @ away)), own + ridge * away

    found = minimize(objective, np.repeat([1.0, 0.0], classes), jac=True, method="L-BFGS-B").x
    return found[:classes] * common, found[classes:]


def pool_weights(scores: Array, log_p: Array, labels: NDArray[np.integer]) -> tuple[float, float]:
    """Returns the weights under which scores and log p together make the true classes likeliest.

    Shape:
        - scores, log_p: (N, C)
        - labels: (N,)
    """
    both = np.stack([floored_log_softmax(scores), floored_log_softmax(log_p)], axis=2)
    own, network = conditional_logit.fit(both, labels, ridge=_FAINT, centre=0.5)
    return float(own), float(network)


def pool_scores(scores: Array, log_p: Array, pool: tuple[float, float]) -> NDArray[np.float64]:
    """Returns scores and log p as log-probabilities, weighted, (N, C)."""
    total: NDArray[np.float64] = pool[0] * floored_log_softmax(scores) + pool[1] * floored_log_softmax(log_p)
    return total


def inverse_temperature(scores: Array, labels: NDArray[np.integer]) -> float:
    """Returns the inverse temperature of best likelihood.

    One clip more, to which every class is as likely, keeps it finite where all clips are right. Clips of a class that
    was not fitted say nothing of it.
    """
    from scipy.optimize import minimize_scalar  # takes a while to import

    there = np.isfinite(scores)
    rows = np.flatnonzero(there[np.arange(len(labels)), labels])
    scores, there, labels = scores[rows], there[rows], labels[rows]
    if not len(rows):
        return 1.0
    # so that distances of any unit start alike
    usual = float(np.std(scores[there] - np.broadcast_to(scores.max(axis=1, keepdims=True), scores.shape)[there]))
    if usual == 0:
        return 1.0

    def loss(log_sharpness: float) -> float:
        told = log_softmax(scores * (np.exp(log_sharpness) / usual))
        return float(-told[np.arange(len(rows)), labels].mean() - told[there].mean() / len(rows))

    found = minimize_scalar(loss, bounds=(-7, 7), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x) / usual)


def floored_log_softmax(scores: Array) -> NDArray[np.float64]:
    """Returns log-probabilities, none of them below that of a class without clips."""
    share = np.exp(log_softmax(scores))
    told: NDArray[np.float64] = np.log((1 - LEAST) * share + LEAST / scores.shape[1])
    return told
