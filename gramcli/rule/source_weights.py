"""Weights of the sources of scores that the rule ``fused`` adds up: the layers, the discriminant and the network."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.blocks import blocks
from gramcli.fitting import conditional_logit
from gramcli.fitting.conditional_logit import log_softmax

Array = NDArray[Any]

WEAK_RIDGE = 1e-3
"""Ridge of weights that have no other ridge. It keeps them finite where clips are separable."""

_BLOCK = 1 << 22
"""Scores that are made log-probabilities at a time, 32 MiB."""


def source_weights(sources: list[Array], frequency: list[Array], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Fits the weight of each source of scores. The first is always used, others only if they are worth a parameter.

    A source is worth a parameter if the log-likelihood of the labels rises by more than one nat (Akaike 1974).
    Otherwise its weight is 0: on few clips a smaller gain is mostly chance, or another source gives it already.

    Args:
        sources: Held-out scores of layers, discriminant and network, in this order.
        frequency: Scores that are fitted too, and whose weights are dropped.
        labels: True classes.

    Shape:
        - sources, frequency: (N, C) each
        - labels: (N,)
        - returns: (S,)
    """
    weights = np.zeros(len(sources))
    used = [0]
    of_used, likelihood = fit_sources([sources[0]], frequency, labels)
    for n in range(1, len(sources)):
        of_more, likelihood_of_more = fit_sources([sources[m] for m in (*used, n)], frequency, labels)
        if likelihood_of_more - likelihood > 1:
            used, of_used, likelihood = [*used, n], of_more, likelihood_of_more
    weights[used] = of_used
    # never 0: if no source is of use, the first class would always win
    weights[0] = max(weights[0], WEAK_RIDGE)
    return weights


def fit_sources(
    sources: list[Array], frequency: list[Array], labels: NDArray[np.integer]
) -> tuple[NDArray[np.float64], float]:
    """Returns the weights of the sources, and the log-likelihood of the labels in nats."""
    scores = np.stack([*sources, *frequency], axis=2)
    centre = np.array([1.0 / len(sources)] * len(sources) + [0.0] * len(frequency))
    weights = conditional_logit.fit(scores, labels, ridge=WEAK_RIDGE, centre=centre)
    return weights[: len(sources)], log_likelihood(scores @ weights, labels)


def log_likelihood(scores: Array, labels: NDArray[np.integer]) -> float:
    """Returns the log-likelihood of the labels in nats.

    Shape:
        - scores: (N, C)
        - labels: (N,)
    """
    own = np.empty(len(labels))
    for rows in blocks(len(scores), scores.shape[1], _BLOCK):
        own[rows] = log_softmax(scores[rows])[np.arange(len(own[rows])), labels[rows]]
    return float(own.sum())
