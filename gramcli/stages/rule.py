"""The decision rule of a calibrated cache, ready to be applied to descriptors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache.statistics import Decision, Statistics
from gramcli.gram.decision import Verdict, decide, total
from gramcli.gram.descriptor import normalise
from gramcli.gram.deviation import deviations

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Rule:
    """Bounds and expected deviations of the layers that decide."""

    classes: tuple[str, ...]
    layers: tuple[str, ...]
    bounds: Mapping[str, tuple[Array, Array]]
    """λ and Λ by layer, each (C, K_l)."""
    expected: Array
    """E_l of these layers, (L,)."""
    present: Array
    """Which classes have training clips, (C,)."""
    epsilon: float

    @classmethod
    def of(cls, statistics: Statistics, decision: Decision) -> Rule:
        """Reads what the chosen layers need, and no more."""
        index = {layer: n for n, layer in enumerate(statistics.layers)}
        return cls(
            statistics.classes,
            decision.layers,
            {layer: statistics.bounds(layer) for layer in decision.layers},
            statistics.expected[[index[layer] for layer in decision.layers]],
            statistics.counts > 0,
            statistics.epsilon,
        )

    def scores(self, descriptors: Mapping[str, Array]) -> Array:
        """Returns Δ̄ of Eq. 13 against every class, (N, C) float64, from raw ĝ by layer, (N, K_l) each."""
        return total(
            np.stack(
                [deviations(normalise(descriptors[layer]), *self.bounds[layer], self.epsilon) for layer in self.layers],
                axis=1,
            ),
            self.expected,
        )

    def apply(self, scores: Array, logits: Array | None) -> Verdict:
        """Decides by the smallest Δ̄ (Eq. 14); the network's own logits, where they are the classes', break ties."""
        return decide(scores, self.present, logits)
