"""Scaled descriptors: each clip's row sums ĝ of the Gram matrix, scaled to the range 0 to 1 (Eq. 6)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.gram import kernels
from gramcli.gram.kernels import Plan

_STEPS = 4
"""Steps, in the sense of `kernels.plan`, that scaling one number is worth."""


def normalise(descriptors: NDArray[Any], plan: Plan | None = None) -> NDArray[np.float32]:
    r"""Returns g̃: ĝ min-max scaled over the channels of each clip (Eq. 6).

    $$\tilde g = \frac{\hat g - \min \hat g}{\max \hat g - \min \hat g}$$

    Where all channels are equal, K = 1 included, this is 0/0 and taken as 0 (see `constant`). A clip with a number that
    is not finite becomes NaN in all channels, so that it cannot pass for a measured one.

    Args:
        descriptors: ĝ.
        plan: How to compute it; by the size of the array if None. Every plan gives the same bits.

    Shape:
        - descriptors: (N, K)
        - returns: (N, K), in [0, 1]
    """
    plan = plan or kernels.plan(_STEPS * descriptors.size)
    if descriptors.dtype == np.float32 and plan.compiled:
        result, raw = np.empty(descriptors.shape, np.float32), np.ascontiguousarray(descriptors)
        scale = kernels.machine_code(kernels.scale)
        kernels.side_by_side(lambda clips: scale(raw[clips], result[clips]), len(raw), plan.threads)
        return result
    wide: NDArray[np.float64] = descriptors.astype(np.float64)  # differences of the largest float32 numbers still fit
    with np.errstate(invalid="ignore"):  # inf - inf
        above = wide - wide.min(axis=1, keepdims=True)
        span = above.max(axis=1, keepdims=True)
        span[span == 0] = 1
        span[np.isinf(span)] = np.nan
        scaled: NDArray[np.float32] = (above / span).astype(np.float32)
    return scaled


def constant(scaled: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Returns which clips have the same ĝ in all channels. Eq. 6 is 0/0 there, and g̃ is 0.

    Shape:
        - scaled: (N, K), g̃
        - returns: (N,)
    """
    # Every other clip reaches 1 in some channel. Few clips have 0 in their first channel, and only these are looked at.
    found: NDArray[np.bool_] = scaled[:, 0] == 0
    found[found] = scaled[found].max(axis=1) == 0
    return found
