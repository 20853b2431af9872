"""How unlike everything known a clip is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.decide.fusion import evidence


def strangeness(deviations: NDArray[Any], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Returns how far a clip is from the class that it is least unlike, over all layers.

    $$u = \min_c \frac{1}{L} \sum_l \log(\eta + \delta_{l,c} / E_l)$$

    Args:
        deviations: δ of the layers, of classes that have training clips.
        expected: E_l, positive.

    Shape:
        - deviations: (N, L, C)
        - expected: (L,) or (L, C)
        - returns: (N,)
    """
    far: NDArray[np.float64] = evidence(deviations, expected).mean(axis=1).min(axis=1)
    return far
