"""Strangeness: how unlike everything known a clip is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def strangeness(evidence: NDArray[Any]) -> NDArray[np.float64]:
    r"""Returns how far a clip is from its nearest class, in the mean over all layers.

    $$u = \min_c \frac{1}{L} \sum_l z_{l,c}, \qquad z_{l,c} = \log(\eta + \delta_{l,c} / E_l)$$

    Args:
        evidence: z of the layers and of the classes that have training clips, as `gramcli.rule.fusion.evidence` gives
            it; corrected for class size where classes differ in size.

    Shape:
        - evidence: (N, L, C)
        - returns: (N,)
    """
    far: NDArray[np.float64] = np.asarray(evidence, np.float64).mean(axis=1).min(axis=1)
    return far
