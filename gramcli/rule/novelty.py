"""Strangeness: how far a clip is from the nearest class. Clips beyond a threshold count as unknown sounds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def strangeness(evidence: NDArray[Any]) -> NDArray[np.float64]:
    r"""Returns the strangeness u: the mean evidence over all layers, for the class with the smallest mean.

    $$u = \min_c \frac{1}{L} \sum_l z_{l,c}, \qquad z_{l,c} = \log(\eta + \delta_{l,c} / E_l)$$

    Args:
        evidence: z of the layers, against the classes that have training clips, from `gramcli.rule.fusion.evidence`. It
            is corrected for class size if classes differ in size.

    Shape:
        - evidence: (N, L, C)
        - returns: (N,)
    """
    smallest: NDArray[np.float64] = np.asarray(evidence, np.float64).mean(axis=1).min(axis=1)
    return smallest
