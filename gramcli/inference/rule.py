"""The decision rule ready to be applied: the bounds of the layers and the rule that was fitted on their deviations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache.decision import Decision
from gramcli.cache.fitted_rule import FittedRule
from gramcli.cache.statistics import Statistics
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.gram import kernels
from gramcli.gram.descriptor import normalise
from gramcli.gram.deviation import deviations
from gramcli.gram.kernels import Plan
from gramcli.gram.total import Choice, decide, total
from gramcli.rule.fusion import evidence
from gramcli.rule.novelty import strangeness
from gramcli.rule.threshold import Threshold

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class RuleOutput:
    """What a rule says of N clips."""

    choice: Choice
    """Label and runner-up. The score is Δ̄ with the rule gram, minus the log-probability with the rule fused."""
    deviations: npt.NDArray[np.float64]
    """Δ̄ against every class, (N, C)."""
    log_p: npt.NDArray[np.float64] | None
    """Log-probability of every class if the sound is of one of them, (N, C); -inf for a class without training clips.
    None where no probabilities could be fitted."""
    strangeness: npt.NDArray[np.float64]
    """(N,)."""
    unknown: npt.NDArray[np.bool_] | None
    """Whether the strangeness is beyond the threshold, (N,); None without a threshold."""


@dataclass(frozen=True)
class Rule:
    """Bounds of the layers that can be used, and the rule that was fitted on deviations from them."""

    classes: tuple[str, ...]
    bounds: Mapping[str, tuple[Array, Array]]
    """λ and Λ by layer, each (C, K_l)."""
    counts: Array
    """Training clips by class, (C,)."""
    epsilon: float
    """Smallest denominator of a deviation."""
    fitted: FittedRule

    @classmethod
    def of(cls, statistics: Statistics, decision: Decision) -> Rule:
        """Reads the bounds of the layers that the decision uses.

        Raises:
            DamagedError: The statistics hold numbers that are never written.
        """
        bounds = {layer: statistics.bounds(layer) for layer in decision.rule.layers}
        return cls(statistics.classes, bounds, statistics.counts, statistics.epsilon, decision.rule)

    @property
    def name(self) -> str:
        """Fused or gram."""
        return self.fitted.name

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers, best first."""
        return self.fitted.layers

    @property
    def threshold(self) -> Threshold | None:
        """Strangeness beyond which a clip is unknown."""
        return self.fitted.threshold

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which classes have training clips, (C,)."""
        return np.asarray(self.counts > 0)

    def check(self) -> None:
        """Raises a ValueError or TypeError where parts do not fit each other; a file may hold anything."""
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
        self.fitted.check(channels, int(self.present.sum()))

    def plan(self, clips: int) -> Plan:
        """Returns how to compute the deviations of so many clips in all, however many come at a time."""
        channels = sum(lower.shape[1] for lower, _ in self.bounds.values())
        return kernels.plan(clips * channels * len(self.classes))

    def deviations(self, descriptors: Mapping[str, Array], plan: Plan | None = None) -> Array:
        """Returns δ of every layer against every class.

        Args:
            descriptors: Raw ĝ by layer.
            plan: How to compute them; by the number of clips if None. Every plan gives the same bits.

        Shape:
            - descriptors: (N, K_l) each
            - returns: (N, L, C) float32
        """
        scaled = ((normalise(descriptors[layer], plan), *self.bounds[layer]) for layer in self.layers)
        return np.stack([deviations(*one, self.epsilon, plan) for one in scaled], axis=1)

    def scores(self, descriptors: Mapping[str, Array]) -> Array:
        """Returns Δ̄ of Eq. 13 against every class, (N, C) float64, from raw ĝ by layer, (N, K_l) each."""
        return self._total(self.deviations(descriptors))

    def _total(self, found: Array) -> Array:
        chosen = self.fitted.chosen
        return total(found[:, :chosen], self.fitted.expected[:chosen])

    def choose(self, scores: Array, logits: Array | None) -> Choice:
        """Chooses by the smallest Δ̄ (Eq. 14); the network's own logits, where they are the classes', break ties."""
        return decide(scores, self.present, logits)

    def judge(
        self,
        descriptors: Mapping[str, Array],
        logits: Array | None,
        prior: Array | None = None,
        plan: Plan | None = None,
    ) -> RuleOutput:
        """Applies the rule that was fitted.

        Args:
            descriptors: Raw ĝ by layer.
            logits: The network's own, where its outputs are the classes.
            prior: How frequent the classes are where the clips come from; as in training if None.
            plan: How to compute deviations; by the number of clips if None.

        Shape:
            - descriptors: (N, K_l) each
            - logits: (N, C)
            - prior: (C,), of positive sum over the classes that have training clips
        """
        fitted, there = self.fitted, self.present
        found = self.deviations(descriptors, plan)
        totals = self._total(found)
        support = evidence(found[:, :, there], fitted.expected, fitted.size_correction)
        scores, trained_prior = self._scores(support, totals[:, there], descriptors, logits)
        log_p = None
        if scores is not None:
            if prior is not None:
                with np.errstate(divide="ignore"):
                    scores = scores + np.log(prior[there]) - trained_prior * np.log(self.counts[there])
            log_p = np.full(totals.shape, -np.inf)
            log_p[:, there] = log_softmax(scores)
        by_probability = fitted.name == "fused" and log_p is not None
        choice = decide(-log_p, there, logits) if by_probability and log_p is not None else self.choose(totals, logits)
        strange = strangeness(support)
        unknown = None if fitted.threshold is None else strange > fitted.threshold.value
        return RuleOutput(choice, totals, log_p, strange, unknown)

    def _scores(
        self, support: Array, totals: Array, descriptors: Mapping[str, Array], logits: Array | None
    ) -> tuple[Array | None, float]:
        """Returns scores whose softmax is the probability, and how much of training's class frequencies is in them.

        Shape:
            - support: z of the classes that have training clips, (N, L, C')
            - totals, returns: (N, C')
        """
        fitted = self.fitted
        if fitted.fusion is not None:
            own = None if logits is None else log_softmax(logits[:, self.present])
            joint = None if fitted.discriminant is None else fitted.discriminant.log_probabilities(descriptors)
            # with a size correction the layers take all classes to be equally frequent; the network alone knows
            share = 1.0 if fitted.size_correction is None else fitted.fusion.trust
            return fitted.fusion.scores(support, own, joint), share
        if fitted.sharpness is not None:
            return -fitted.sharpness * np.log1p(totals), 1.0
        return None, 1.0
