"""Scaled descriptors: the row sums ĝ of a clip's Gram matrix, min-max scaled to the range 0 to 1 (Eq. 6)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.gram import kernels
from gramcli.gram.kernels import Plan

_STEPS = 4
"""Cost of scaling one number, in the steps that `kernels.plan` counts."""


def normalise(descriptors: NDArray[Any], plan: Plan | None = None) -> NDArray[np.float32]:
    r"""Returns g̃: ĝ min-max scaled over the channels of each clip (Eq. 6).

    $$\tilde g = \frac{\hat g - \min \hat g}{\max \hat g - \min \hat g}$$

    If all channels are equal, or if there is only one channel, this is 0/0. The result is then 0; see `constant`. If a
    clip has a number that is not finite, all its channels become NaN, so that the failure is visible.

    Args:
        descriptors: ĝ.
        plan: Whether to use NumPy or compiled loops; decided by the size of the array if None.

    Shape:
        - descriptors: (N, K)
        - returns: (N, K), in [0, 1]
    """
    plan = plan or kernels.plan(_STEPS * descriptors.size)
    if descriptors.dtype == np.float32 and plan.compiled:
        result, raw = np.empty(descriptors.shape, np.float32), np.ascontiguousarray(descriptors)
        scale = kernels.machine_code(kernels.scale)
        kernels.in_threads(lambda clips: scale(raw[clips], result[clips]), len(raw), plan.threads)
        return result
    wide: NDArray[np.float64] = descriptors.astype(np.float64)  # a difference of float32 numbers may overflow float32
    with np.errstate(invalid="ignore"):  # inf - inf
        above = wide - wide.min(axis=1, keepdims=True)
        span = above.max(axis=1, keepdims=True)
        span[span == 0] = 1
        span[np.isinf(span)] = np.nan
        scaled: NDArray[np.float32] = (above / span).astype(np.float32)
    return scaled


def constant(scaled: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tells which clips have the same ĝ in all channels. Eq. 6 is 0/0 for them, and their g̃ is 0.

    Shape:
        - scaled: (N, K), g̃
        - returns: (N,)
    """
    # Every other clip has a channel with the value 1. To save time, only clips with 0 in the first channel are checked.
    is_constant: NDArray[np.bool_] = scaled[:, 0] == 0
    is_constant[is_constant] = scaled[is_constant].max(axis=1) == 0
    return is_constant
