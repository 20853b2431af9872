"""Calibration of scores on held-out clips: one temperature, one scale per class, or two sources of scores combined."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.fitting import conditional_logit
from gramcli.fitting.conditional_logit import log_softmax

Array = NDArray[Any]

UNIFORM_SHARE = 1e-6
"""Weight of the uniform distribution in every probability, so that a class without clips does not get probability 0."""

_WEAK_RIDGE = 1e-3
"""Ridge that keeps weights finite where clips are separable."""


def vector_scaling(
    log_p: NDArray[np.float64], labels: NDArray[np.integer], ridge: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fits vector scaling (Guo et al. 2017): a factor of log p and a summand for each class.

    The ridge pulls the factors towards one common inverse temperature, and the summands towards 0.

    Shape:
        - log_p: (N, C)
        - labels: (N,)
        - returns: (C,), (C,)
    """
    from scipy.optimize import minimize  # takes a while to import

    clips, classes = log_p.shape
    common = fit_inverse_temperature(log_p, labels)
    truth = np.zeros_like(log_p)
    truth[np.arange(clips), labels] = 1

    def objective(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scale, shift = parameters[:classes], parameters[classes:]
        scaled = log_softmax(log_p * common * scale + shift)
        slope = (np.exp(scaled) - truth) / clips
        offset = np.concatenate([scale - 1, shift])
        gradient = np.concatenate([(slope * log_p * common).sum(axis=0), slope.sum(axis=0)])
        return float(-scaled[truth == 1].mean() + 0.5 * ridge * (offset @ offset)), gradient + ridge * offset

    solution = minimize(objective, np.repeat([1.0, 0.0], classes), jac=True, method="L-BFGS-B").x
    return solution[:classes] * common, solution[classes:]


def pool_weights(scores: Array, log_p: Array, labels: NDArray[np.integer]) -> tuple[float, float]:
    """Fits the weights of scores and of log p whose weighted sum gives the true classes the largest likelihood.

    Shape:
        - scores, log_p: (N, C)
        - labels: (N,)
    """
    evidence = np.stack([floored_log_softmax(scores), floored_log_softmax(log_p)], axis=2)
    of_scores, of_network = conditional_logit.fit(evidence, labels, ridge=_WEAK_RIDGE, centre=0.5)
    return float(of_scores), float(of_network)


def pool_scores(scores: Array, log_p: Array, weights: tuple[float, float]) -> NDArray[np.float64]:
    """Returns the weighted sum of scores and log p, both as log-probabilities; see `pool_weights`.

    Shape:
        - scores, log_p, returns: (N, C)
    """
    total: NDArray[np.float64] = weights[0] * floored_log_softmax(scores) + weights[1] * floored_log_softmax(log_p)
    return total


def fit_inverse_temperature(scores: Array, labels: NDArray[np.integer]) -> float:
    """Fits the factor of the scores under which their softmax gives the true classes the largest likelihood.

    One clip is added for which every class is equally likely. It keeps the factor finite where all clips are right.
    Clips whose class has the score -inf are left out, because that class was not fitted.

    Shape:
        - scores: (N, C)
        - labels: (N,)
    """
    from scipy.optimize import minimize_scalar  # takes a while to import

    finite = np.isfinite(scores)
    rows = np.flatnonzero(finite[np.arange(len(labels)), labels])
    scores, finite, labels = scores[rows], finite[rows], labels[rows]
    if not len(rows):
        return 1.0
    # the search is in units of the scores' spread, so that its range fits scores of any unit
    spread = float(np.std(scores[finite] - np.broadcast_to(scores.max(axis=1, keepdims=True), scores.shape)[finite]))
    if spread == 0:
        return 1.0

    def loss(log_factor: float) -> float:
        log_p = log_softmax(scores * (np.exp(log_factor) / spread))
        return float(-log_p[np.arange(len(rows)), labels].mean() - log_p[finite].mean() / len(rows))

    solution = minimize_scalar(loss, bounds=(-7, 7), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(solution.x) / spread)


def floored_log_softmax(scores: Array) -> NDArray[np.float64]:
    """Returns the log-softmax, mixed with the uniform distribution so that no probability is 0; see `UNIFORM_SHARE`.

    Shape:
        - scores, returns: (N, C)
    """
    probability = np.exp(log_softmax(scores))
    log_p: NDArray[np.float64] = np.log((1 - UNIFORM_SHARE) * probability + UNIFORM_SHARE / scores.shape[1])
    return log_p
