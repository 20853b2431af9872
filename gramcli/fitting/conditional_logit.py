"""Non-negative weights of evidence by regularised likelihood: the conditional logit model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def log_softmax(scores: Array) -> NDArray[np.float64]:
    """Returns the logarithm of the softmax over the last axis, float64; a class of score -inf gets -inf.

    Shape:
        - scores: (..., C)
        - returns: (..., C)
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
    r"""Returns the weights v ≥ 0 under which the true classes are most likely.

    $$\min_{v \ge 0}\; -\frac{1}{N} \sum_n \log \mathrm{softmax}_c(\phi_{nc} \cdot v)_{c = y_n}
    + \frac{1}{2} \sum_j r_j (v_j - m_j)^2$$

    The objective is convex, so where a ridge is positive the result is the only one.

    Args:
        evidence: φ, finite; larger speaks for the class.
        labels: y, 0 to C - 1.
        ridge: r, one for all or one each.
        centre: m, what little evidence falls back to.

    Raises:
        ValueError: Shapes or labels do not fit, no clip, or evidence that is not finite.

    Shape:
        - evidence: (N, C, J)
        - labels: (N,)
        - ridge, centre: (J,)
        - returns: (J,)
    """
    clips, classes, kinds = evidence.shape
    if labels.shape != (clips,) or not clips or not ((labels >= 0) & (labels < classes)).all():
        raise ValueError(f"labels 0 to {classes - 1} of {clips} clips expected")
    if not np.isfinite(evidence).all():
        raise ValueError("evidence is not finite")

    from scipy.optimize import minimize  # takes a while to import

    ridges, middle = np.broadcast_to(ridge, kinds), np.broadcast_to(centre, kinds)
    flat = np.ascontiguousarray(evidence).reshape(clips * classes, kinds)
    own = evidence[np.arange(clips), labels].sum(axis=0)

    def objective(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_p = log_softmax((flat @ weights).reshape(clips, classes))
        loss = -log_p[np.arange(clips), labels].mean()
        slope = (np.exp(log_p).reshape(-1) @ flat - own) / clips
        away = weights - middle
        return float(loss + 0.5 * (ridges * away * away).sum()), slope + ridges * away

    found = minimize(
        objective,
        np.maximum(middle, 0.0),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * kinds,
        options={"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-8},
    )
    weights: NDArray[np.float64] = found.x
    return weights
