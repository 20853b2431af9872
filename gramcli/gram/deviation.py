"""Deviations: how far a clip lies outside the bounds of every class at one layer (Eq. 9-10)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gramcli.gram import kernels
from gramcli.gram.kernels import Plan

BLOCK = 1 << 15
"""Numbers of g̃ that NumPy works on at once. A few buffers of this size stay in the second-level cache."""
SHARE = 1 << 19
"""Steps that are worth a thread of their own: about a tenth of a millisecond."""


def deviations(
    scaled: NDArray[np.float32],
    lower: NDArray[np.float32],
    upper: NDArray[np.float32],
    epsilon: float,
    plan: Plan | None = None,
) -> NDArray[np.float32]:
    r"""Returns δ of every clip against every class: Eq. 9 with floored denominators, summed over channels (Eq. 10).

    $$\delta_c = \sum_k \max\Big(0,\; \frac{\lambda_{ck} - \tilde g_k}{\max(|\lambda_{ck}|, \epsilon)},\;
    \frac{\tilde g_k - \Lambda_{ck}}{\max(|\Lambda_{ck}|, \epsilon)}\Big)$$

    As λ ≤ Λ at most one of the two is positive, so the maximum is the case distinction. Inside the bounds the result is
    exactly 0: the difference is taken first, in float32, where it has the right sign and half a unit of error at
    most. It is divided, not multiplied by a reciprocal, so that a channel at g̃ = 0 below its λ counts exactly 1: such
    deviations are often equal, and ranks and Eq. 14 see ties. Terms are summed in float64. A clip's result does not
    depend on the other clips, on threads, or on whether NumPy or machine code works it out, bit for bit; NaN stays NaN.

    Args:
        scaled: g̃.
        lower: λ, finite; `Bounds.filled` has made absent classes so, their column means nothing.
        upper: Λ, finite.
        epsilon: Smallest denominator, at least 1e-30.
        plan: How to compute it; by the size of the arrays if None. Every plan gives the same bits.

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
        raise ValueError("bounds are not finite: fill those of absent classes")
    if not epsilon >= 1e-30:
        raise ValueError(f"epsilon is {epsilon}, but 1e-30 is the least")
    floor = np.float32(epsilon)
    result = np.empty((clips, len(lower)), np.float32)
    steps = clips * channels * len(lower)
    plan = plan or kernels.plan(steps)
    if not plan.compiled:
        _by_numpy(scaled, lower, upper, floor, result)
        return result
    kernel, sums = kernels.machine_code(kernels.deviate), kernels.pairs(channels)
    rows, low, up = (np.ascontiguousarray(one, np.float32) for one in (scaled, lower, upper))
    threads = min(plan.threads, 1 + steps // SHARE)
    kernels.side_by_side(lambda some: kernel(rows[some], low, up, floor, *sums, result[some]), clips, threads)
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
    zero = np.zeros_like(over)  # an array, since numpy's maximum with a scalar is four times slower
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
            # A copy and not sum(dtype=float64), whose buffers could split a row at a place that depends on the others.
            np.copyto(terms[:n], over[:n])
            result[start : start + n, c] = terms[:n].sum(axis=1)


def touched(lower: NDArray[np.float32], upper: NDArray[np.float32], counts: NDArray[np.integer], epsilon: float) -> int:
    """Returns how many denominators |Λ| the floor ε raised, over channels of classes that have clips.

    Only Λ counts: g̃ ≥ 0 falls below λ only where λ > 0, and then by no more than λ.

    Shape:
        - lower, upper: (C, K)
        - counts: (C,)
    """
    if not lower.shape == upper.shape == (len(counts), *upper.shape[1:]):
        raise ValueError(f"bounds of {lower.shape} and {upper.shape} do not fit {len(counts)} classes")
    return int(np.count_nonzero(np.abs(upper[counts > 0]) < np.float32(epsilon)))
