"""The conditional logit model: non-negative weights of evidence, fitted by penalised likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


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
    if not np.isfinite(evidence).all():
        raise ValueError("evidence is not finite")

    from scipy.optimize import minimize  # takes a while to import

    ridges, centres = np.broadcast_to(ridge, count), np.broadcast_to(centre, count)
    flat = np.ascontiguousarray(evidence).reshape(clips * classes, count)
    of_true_class = evidence[np.arange(clips), labels].sum(axis=0)

    def objective(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_p = log_softmax((flat @ weights).reshape(clips, classes))
        loss = -log_p[np.arange(clips), labels].mean()
        gradient = (np.exp(log_p).reshape(-1) @ flat - of_true_class) / clips
        offset = weights - centres
        return float(loss + 0.5 * (ridges * offset * offset).sum()), gradient + ridges * offset

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
