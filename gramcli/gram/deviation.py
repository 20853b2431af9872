"""Deviations: how far a clip's descriptor lies outside the bounds of each class, at one layer (Eq. 9-10)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gramcli.gram import kernels
from gramcli.gram.kernels import Plan

BLOCK = 1 << 15
"""How many numbers of g̃ NumPy processes at a time. A few buffers of this size fit into the second-level cache."""
STEPS_PER_THREAD = 1 << 19
"""Steps that make another thread worth its cost, about a tenth of a millisecond of work."""


def deviations(
    scaled: NDArray[np.float32],
    lower: NDArray[np.float32],
    upper: NDArray[np.float32],
    epsilon: float,
    plan: Plan | None = None,
) -> NDArray[np.float32]:
    r"""Returns δ of every clip against every class: Eq. 9 with a smallest denominator, summed over channels (Eq. 10).

    $$\delta_c = \sum_k \max\Big(0,\; \frac{\lambda_{ck} - \tilde g_k}{\max(|\lambda_{ck}|, \epsilon)},\;
    \frac{\tilde g_k - \Lambda_{ck}}{\max(|\Lambda_{ck}|, \epsilon)}\Big)$$

    As λ ≤ Λ, at most one of the two quotients is positive, so the maximum covers the cases of Eq. 9.

    Inside the bounds the result is exactly 0, because the difference is taken first, in float32, and has the right
    sign. The difference is divided by the denominator, not multiplied by its reciprocal. So a channel with g̃ = 0 below
    its λ adds exactly 1. Such deviations are often equal, and ranks and Eq. 14 must see these ties.

    Terms are summed in float64. The bits of a clip's result do not depend on the other clips, on the number of threads,
    or on whether NumPy or a compiled loop computes them. NaN stays NaN.

    Args:
        scaled: g̃.
        lower: λ, finite. See `Bounds.filled` for classes without clips; their column has no meaning.
        upper: Λ, finite.
        epsilon: Smallest denominator, at least 1e-30.
        plan: Whether to use NumPy or compiled loops; decided by the size of the arrays if None.

    Raises:
        ValueError: Shapes do not fit, bounds are not finite, or epsilon is so small that a deviation could overflow.

    Shape:
        - scaled: (N, K)
        - lower, upper: (C, K)
        - returns: (N, C)
    """
    clips, channels = scaled.shape
    if lower.shape != upper.shape or lower.shape[1:] != (channels,):
        raise ValueError(f"bounds of {lower.shape} and {upper.shape} do not fit {channels} channels")
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        raise ValueError("bounds are not finite; use Bounds.filled for classes without clips")
    if not epsilon >= 1e-30:
        raise ValueError(f"epsilon must be at least 1e-30, not {epsilon}")
    floor = np.float32(epsilon)
    result = np.empty((clips, len(lower)), np.float32)
    steps = clips * channels * len(lower)
    plan = plan or kernels.plan(steps)
    if not plan.compiled:
        _by_numpy(scaled, lower, upper, floor, result)
        return result
    kernel, order = kernels.machine_code(kernels.deviate), kernels.summation_order(channels)
    rows, low, up = (np.ascontiguousarray(one, np.float32) for one in (scaled, lower, upper))
    threads = min(plan.threads, 1 + steps // STEPS_PER_THREAD)
    kernels.in_threads(lambda some: kernel(rows[some], low, up, floor, *order, result[some]), clips, threads)
    return result


def _by_numpy(
    scaled: NDArray[np.float32],
    lower: NDArray[np.float32],
    upper: NDArray[np.float32],
    floor: np.float32,
    result: NDArray[np.float32],
) -> None:
    clips, channels = scaled.shape
    below, above = np.maximum(np.abs(lower), floor), np.maximum(np.abs(upper), floor)
    rows = max(1, BLOCK // channels)
    over = np.empty((min(rows, clips), channels), np.float32)
    under = np.empty_like(over)
    zero = np.zeros_like(over)  # an array, as NumPy's maximum with a scalar is four times slower
    terms = np.empty(over.shape, np.float64)
    for start in range(0, clips, rows):
        block = scaled[start : start + rows]
        n = len(block)
        for c in range(len(lower)):
            np.subtract(block, upper[c], out=over[:n])
            np.divide(over[:n], above[c], out=over[:n])
            np.subtract(lower[c], block, out=under[:n])
            np.divide(under[:n], below[c], out=under[:n])
            np.maximum(over[:n], under[:n], out=over[:n])
            np.maximum(over[:n], zero[:n], out=over[:n])
            # Copied first: sum(dtype=float64) uses buffers that split a row at a position that depends on other rows.
            np.copyto(terms[:n], over[:n])
            result[start : start + n, c] = terms[:n].sum(axis=1)


def touched(lower: NDArray[np.float32], upper: NDArray[np.float32], counts: NDArray[np.integer], epsilon: float) -> int:
    """Returns how many denominators |Λ| are below ε and replaced by it, over the channels of classes with clips.

    Only Λ is counted. As g̃ ≥ 0, a clip can be below λ only where λ > 0, and then the quotient is at most 1.

    Shape:
        - lower, upper: (C, K)
        - counts: (C,)
    """
    if not lower.shape == upper.shape == (len(counts), *upper.shape[1:]):
        raise ValueError(f"bounds of {lower.shape} and {upper.shape} do not fit {len(counts)} classes")
    return int(np.count_nonzero(np.abs(upper[counts > 0]) < np.float32(epsilon)))
