"""The decision of a calibrated cache, ready to be applied to descriptors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache import decision as decisions
from gramcli.cache.decision import Decision
from gramcli.cache.statistics import Statistics
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.gram.descriptor import normalise
from gramcli.gram.deviation import deviations
from gramcli.gram.total import Choice, decide, total
from gramcli.rule.class_size import SizeCorrection
from gramcli.rule.discriminant import Discriminant
from gramcli.rule.fusion import Fusion
from gramcli.rule.novelty import strangeness
from gramcli.rule.threshold import Threshold

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class RuleOutput:
    """What a rule says of N clips."""

    verdict: Choice
    """Its score is Δ̄ with the rule gram, minus the log-probability with the rule fused."""
    deviations: npt.NDArray[np.float64]
    """Δ̄ against every class, (N, C)."""
    log_p: npt.NDArray[np.float64] | None
    """Log-probability of every class if the sound is of one of them, (N, C); -inf for a class without training clips;
    None where validation could not tell."""
    strangeness: npt.NDArray[np.float64]
    """(N,)."""
    unknown: npt.NDArray[np.bool_] | None
    """Whether beyond the threshold, (N,); None without one."""


@dataclass(frozen=True)
class Rule:
    """Bounds and expected deviations of the layers that speak, and what was fitted on them."""

    classes: tuple[str, ...]
    layers: tuple[str, ...]
    """Best first."""
    bounds: Mapping[str, tuple[Array, Array]]
    """λ and Λ by layer, each (C, K_l)."""
    expected: Array
    """E_l of these layers, (L,)."""
    counts: Array
    """Training clips by class, (C,)."""
    epsilon: float
    chosen: int
    """How many layers, from the first on, Δ̄ is the mean over."""
    name: str
    """fused or gram."""
    fusion: Fusion | None
    sharpness: float | None
    threshold: Threshold | None
    levelling: SizeCorrection | None = None
    """Of all layers and the classes that have training clips; None where these are of about equal size."""
    discriminant: Discriminant | None = None
    """Of all layers and the classes that have training clips; None with the rule gram."""

    @classmethod
    def of(cls, statistics: Statistics, decision: Decision) -> Rule:
        """Reads what the layers need, and no more."""
        index = {layer: n for n, layer in enumerate(statistics.layers)}
        return cls(
            statistics.classes,
            decision.order,
            {layer: statistics.bounds(layer) for layer in decision.order},
            statistics.expected[[index[layer] for layer in decision.order]],
            statistics.counts,
            statistics.epsilon,
            decision.chosen,
            decision.rule,
            decision.fusion,
            decision.sharpness,
            decision.threshold,
            decision.levelling,
            decision.discriminant,
        )

    def check(self) -> None:
        """Raises a ValueError or TypeError where parts do not fit each other."""
        classes = len(self.classes)
        shapes = {layer: (lower.shape, upper.shape) for layer, (lower, upper) in self.bounds.items()}
        channels = {layer: shapes[layer][0][-1] for layer in self.layers}
        texts = all(isinstance(text, str) for text in (*self.classes, *self.layers, self.name))
        fits = all(shapes[layer] == ((classes, size), (classes, size)) for layer, size in channels.items())
        sized = self.counts.shape == (classes,)
        if not (texts and fits and sized and len(channels) == len(self.layers) and (self.counts > 0).any()):
            raise ValueError("shapes")
        if any((lower > upper).any() for lower, upper in self.bounds.values()) or not 0 < self.epsilon < math.inf:
            raise ValueError("bounds")
        decisions.check(self, channels, self.expected, int(self.present.sum()))

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which classes have training clips, (C,)."""
        return np.asarray(self.counts > 0)

    def deviations(self, descriptors: Mapping[str, Array]) -> Array:
        """Returns δ of every layer against every class, (N, L, C) float32, from raw ĝ by layer, (N, K_l) each."""
        return np.stack(
            [deviations(normalise(descriptors[layer]), *self.bounds[layer], self.epsilon) for layer in self.layers],
            axis=1,
        )

    def scores(self, descriptors: Mapping[str, Array]) -> Array:
        """Returns Δ̄ of Eq. 13 against every class, (N, C) float64, from raw ĝ by layer, (N, K_l) each."""
        return self._scores(self.deviations(descriptors))

    def _scores(self, found: Array) -> Array:
        return total(found[:, : self.chosen], self.expected[: self.chosen])

    def apply(self, scores: Array, logits: Array | None) -> Choice:
        """Decides by the smallest Δ̄ (Eq. 14); the network's own logits, where they are the classes', break ties."""
        return decide(scores, self.present, logits)

    def judge(self, descriptors: Mapping[str, Array], logits: Array | None, prior: Array | None = None) -> RuleOutput:
        """Decides by the rule that was fitted.

        Args:
            descriptors: Raw ĝ by layer.
            logits: The network's own, where its outputs are the classes.
            prior: How frequent the classes are where the clips come from; as in training if None.

        Shape:
            - descriptors: (N, K_l) each
            - logits: (N, C)
            - prior: (C,), of positive sum over the classes that have training clips
        """
        found = self.deviations(descriptors)
        far, there = self._scores(found), self.present
        strange = strangeness(found[:, :, there], self.expected, self.levelling)
        together = None if self.discriminant is None else self.discriminant.log_probabilities(descriptors)
        log_p = self._log_p(found, far, logits, together, prior)
        if self.name == "fused" and log_p is not None:
            verdict = decide(-log_p, there, logits)
        else:
            verdict = self.apply(far, logits)
        unknown = None if self.threshold is None else strange > self.threshold.value
        return RuleOutput(verdict, far, log_p, strange, unknown)

    def _log_p(
        self, found: Array, far: Array, logits: Array | None, together: Array | None, prior: Array | None
    ) -> Array | None:
        there, share = self.present, 1.0
        if self.fusion is not None:
            own = None if logits is None else log_softmax(logits[:, there])
            scores = self.fusion.scores(found[:, :, there], own, together)
            if self.levelling is not None:
                # the layers take all classes to be equally frequent, the network alone knows of training
                share = self.fusion.trust
        elif self.sharpness is not None:
            scores = -self.sharpness * np.log1p(far[:, there])
        else:
            return None
        if prior is not None:
            with np.errstate(divide="ignore"):
                scores = scores + np.log(prior[there]) - share * np.log(self.counts[there])
        whole = np.full(far.shape, -np.inf)
        whole[:, there] = log_softmax(scores)
        return whole
