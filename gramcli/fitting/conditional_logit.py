"""The conditional logit model: non-negative weights of evidence, fitted by penalised likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.blocks import blocks

Array = NDArray[Any]

BLOCK = 1 << 24
"""Numbers of evidence of which the likelihood is computed at a time, 128 MiB."""


def log_softmax(scores: Array) -> NDArray[np.float64]:
    """Returns the logarithm of the softmax over the last axis. A score of -inf gives -inf.

    Shape:
        - scores: (..., C)
        - returns: (..., C), float64
    """
    scores = np.asarray(scores, np.float64)
    shifted = scores - scores.max(axis=-1, keepdims=True)
    total: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return total


def fit(
    evidence: NDArray[np.float64],
    labels: NDArray[np.integer],
    *,
    ridge: NDArray[np.float64] | float = 1e-3,
    centre: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float64]:
    r"""Fits the weights v ≥ 0 that maximise the penalised likelihood of the true classes.

    $$\min_{v \ge 0}\; -\frac{1}{N} \sum_n \log \mathrm{softmax}_c(\phi_{nc} \cdot v)_{c = y_n}
    + \frac{1}{2} \sum_j r_j (v_j - m_j)^2$$

    The objective is convex. If all ridges are positive, there is exactly one solution.

    Args:
        evidence: φ, finite. Larger means more like the class.
        labels: y, 0 to C - 1.
        ridge: r, one number for all weights or one for each.
        centre: m, the weights towards which the ridge pulls; one number for all or one for each.

    Raises:
        ValueError: Shapes or labels do not fit, there is no clip, or evidence is not finite.

    Shape:
        - evidence: (N, C, J)
        - labels: (N,)
        - ridge, centre: (J,)
        - returns: (J,)
    """
    clips, classes, count = evidence.shape
    if labels.shape != (clips,) or not clips or not ((labels >= 0) & (labels < classes)).all():
        raise ValueError(f"expected labels from 0 to {classes - 1} of {clips} clips")
    flat = np.ascontiguousarray(evidence)
    in_blocks = list(blocks(clips, classes * count, BLOCK))
    if not all(np.isfinite(flat[rows]).all() for rows in in_blocks):
        raise ValueError("evidence is not finite")

    from scipy.optimize import minimize  # takes a while to import

    ridges, centres = np.broadcast_to(ridge, count), np.broadcast_to(centre, count)
    of_true_class = evidence[np.arange(clips), labels].sum(axis=0)

    def objective(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        own, expected = np.empty(clips), np.zeros(count)
        for rows in in_blocks:
            some = flat[rows].reshape(-1, count)
            log_p = log_softmax((some @ weights).reshape(-1, classes))
            own[rows] = log_p[np.arange(len(log_p)), labels[rows]]
            expected += np.exp(log_p).reshape(-1) @ some
        gradient = (expected - of_true_class) / clips
        offset = weights - centres
        return float(-own.mean() + 0.5 * (ridges * offset * offset).sum()), gradient + ridges * offset

    solution = minimize(
        objective,
        np.maximum(centres, 0.0),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * count,
        options={"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-8},
    )
    weights: NDArray[np.float64] = solution.x
    return weights
