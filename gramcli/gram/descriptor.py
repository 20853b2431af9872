"""Feature maps to descriptors: row sums of the Gram matrix, and their min-max scaled form (Eq. 4-6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gramcli.gram import kernels

if TYPE_CHECKING:
    pass

_STEPS = 4
"""What scaling an element costs NumPy, as `compiled.worth` counts."""


def normalise(descriptors: NDArray[Any], threads: int = 1) -> NDArray[np.float32]:
    r"""Returns g̃: ĝ min-max scaled over the channels of each clip (Eq. 6).

    $$\tilde g = \frac{\hat g - \min \hat g}{\max \hat g - \min \hat g}$$

    Where all channels are equal, K = 1 included, this is 0/0 and taken as 0 (see `constant`). A clip with a number that
    is not finite becomes NaN in all channels, so that it cannot pass for a measured one.

    Args:
        descriptors: ĝ.
        threads: Threads that may work on it where there is much to do; the result is the same for any number.

    Shape:
        - descriptors: (N, K)
        - returns: (N, K), in [0, 1]
    """
    if descriptors.dtype == np.float32 and kernels.worth(_STEPS * descriptors.size):
        result, raw = np.empty(descriptors.shape, np.float32), np.ascontiguousarray(descriptors)
        scale = kernels.machine_code(kernels.scale)
        kernels.side_by_side(lambda clips: scale(raw[clips], result[clips]), len(raw), threads)
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
    """Returns which clips have one and the same ĝ in all channels, where Eq. 6 says nothing and g̃ is 0.

    Shape:
        - scaled: (N, K), g̃
        - returns: (N,)
    """
    # Every other clip reaches 1 somewhere; few have 0 in their first channel, and only these need a closer look.
    found: NDArray[np.bool_] = scaled[:, 0] == 0
    found[found] = scaled[found].max(axis=1) == 0
    return found
