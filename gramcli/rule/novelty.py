"""How unlike everything known a clip is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.rule.class_size import SizeCorrection
from gramcli.rule.fusion import evidence


def strangeness(
    deviations: NDArray[Any], expected: NDArray[np.float64], levelling: SizeCorrection | None = None
) -> NDArray[np.float64]:
    r"""Returns how far a clip is from the class that it is least unlike, over all layers.

    $$u = \min_c \frac{1}{L} \sum_l z_{l,c}, \qquad z_{l,c} = \log(\eta + \delta_{l,c} / E_l)$$

    Args:
        deviations: δ of the layers, of classes that have training clips.
        expected: E_l, positive.
        levelling: What brings z to one class size, or None.

    Shape:
        - deviations: (N, L, C)
        - expected: (L,)
        - returns: (N,)
    """
    far: NDArray[np.float64] = evidence(deviations, expected, levelling).mean(axis=1).min(axis=1)
    return far
