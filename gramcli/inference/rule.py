"""The decision rule as it is applied to new clips: class bounds and the fitted rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.blocks import blocks
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
from gramcli.settings.schema import is_valid

Array = npt.NDArray[Any]

_BLOCK = 1 << 22
"""Deviations that are in memory at a time, as a rule takes about 50 bytes for each."""


@dataclass(frozen=True, eq=False)
class RuleOutput:
    """The result of a rule for N clips."""

    choice: Choice
    """Label and runner-up. The score is Δ̄ with the rule gram, and -log p with the rule fused."""
    deviations: npt.NDArray[np.float64]
    """Δ̄ against every class, (N, C)."""
    log_p: npt.NDArray[np.float64] | None
    """Log-probability of each class, given that the sound is of a known class, (N, C). It is -inf for a class without
    training clips. None if no probabilities could be fitted."""
    strangeness: npt.NDArray[np.float64]
    """Strangeness, (N,)."""
    unknown: npt.NDArray[np.bool_] | None
    """Whether the strangeness is above the threshold, (N,); None without a threshold."""

    @staticmethod
    def joined(parts: Sequence[RuleOutput]) -> RuleOutput:
        """Joins the results for one block of clips after another."""
        log_p = [part.log_p for part in parts if part.log_p is not None]
        unknown = [part.unknown for part in parts if part.unknown is not None]
        return RuleOutput(
            Choice(*map(np.concatenate, zip(*(vars(part.choice).values() for part in parts), strict=True))),
            np.concatenate([part.deviations for part in parts]),
            np.concatenate(log_p) if log_p else None,
            np.concatenate([part.strangeness for part in parts]),
            np.concatenate(unknown) if unknown else None,
        )


@dataclass(frozen=True)
class Rule:
    """The bounds of all layers that can be used, and the rule that was fitted on deviations from them."""

    classes: tuple[str, ...]
    bounds: Mapping[str, tuple[Array, Array]]
    """λ and Λ by layer, each (C, K_l)."""
    counts: Array
    """Training clips by class, (C,)."""
    epsilon: float
    """Smallest denominator of a deviation (Eq. 9)."""
    fitted: FittedRule

    @classmethod
    def of(cls, statistics: Statistics, decision: Decision) -> Rule:
        """Reads the bounds of the layers that the decision uses.

        Raises:
            DamagedError: The statistics hold numbers that calibrate never writes.
        """
        bounds = {layer: statistics.bounds(layer) for layer in decision.rule.layers}
        return cls(statistics.classes, bounds, statistics.counts, statistics.epsilon, decision.rule)

    @property
    def name(self) -> str:
        """Name of the rule: fused or gram."""
        return self.fitted.name

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers, best first."""
        return self.fitted.layers

    @property
    def threshold(self) -> Threshold | None:
        """Strangeness above which a clip is unknown; None without a threshold."""
        return self.fitted.threshold

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which classes have training clips, (C,)."""
        return np.asarray(self.counts > 0)

    def check(self) -> None:
        """Raises a ValueError or TypeError if the parts do not fit each other, as a file may hold anything."""
        classes = len(self.classes)
        shapes = {layer: (lower.shape, upper.shape) for layer, (lower, upper) in self.bounds.items()}
        channels = {layer: shapes[layer][0][-1] for layer in self.layers}
        if not all(isinstance(text, str) for text in (*self.classes, *self.layers, self.name)):
            raise ValueError("a name of a class, of a layer or of the rule is not text")
        if len(channels) != len(self.layers):
            raise ValueError("a layer is listed twice")
        for layer, size in channels.items():
            if shapes[layer] != ((classes, size), (classes, size)):
                raise ValueError(f"the bounds of layer {layer} have shapes {shapes[layer]} for {classes} classes")
        if self.counts.shape != (classes,):
            raise ValueError(f"the training clips by class have shape {self.counts.shape} for {classes} classes")
        if not (self.counts > 0).any():
            raise ValueError("no class has training clips")
        for layer, (lower, upper) in self.bounds.items():
            if (lower > upper).any():
                raise ValueError(f"a lower bound of layer {layer} exceeds the upper one")
        if not is_valid("calibrate", "epsilon", self.epsilon):
            raise ValueError(f"epsilon is {self.epsilon!r}, which it cannot be")
        self.fitted.check(channels, int(self.present.sum()))

    def plan(self, clips: int) -> Plan:
        """Returns how to compute the deviations of a number of clips in all, for callers that work batch by batch."""
        channels = sum(lower.shape[1] for lower, _ in self.bounds.values())
        return kernels.plan(clips * channels * len(self.classes))

    def deviations(self, descriptors: Mapping[str, Array], plan: Plan | None = None) -> Array:
        """Returns δ of every layer against every class.

        Args:
            descriptors: Raw ĝ by layer.
            plan: Whether to use NumPy or compiled loops; decided by the number of clips if None.

        Shape:
            - descriptors: (N, K_l) each
            - returns: (N, L, C) float32
        """
        scaled = ((normalise(descriptors[layer], plan), *self.bounds[layer]) for layer in self.layers)
        return np.stack([deviations(*one, self.epsilon, plan) for one in scaled], axis=1)

    def scores(self, descriptors: Mapping[str, Array]) -> Array:
        """Returns Δ̄ of Eq. 13 against every class, (N, C) float64, from raw ĝ by layer, (N, K_l) each."""
        return self._total(self.deviations(descriptors))

    def _total(self, deviations: Array) -> Array:
        chosen = self.fitted.chosen
        return total(deviations[:, :chosen], self.fitted.expected[:chosen])

    def choose(self, scores: Array, logits: Array | None) -> Choice:
        """Chooses the class of smallest Δ̄ (Eq. 14). Logits break ties if the network's outputs are the classes."""
        return decide(scores, self.present, logits)

    def judge(
        self,
        descriptors: Mapping[str, Array],
        logits: Array | None,
        prior: Array | None = None,
        plan: Plan | None = None,
    ) -> RuleOutput:
        """Applies the rule to clips.

        Args:
            descriptors: Raw ĝ by layer.
            logits: Outputs of the network, if they are the classes.
            prior: Frequencies of the classes where the clips come from; those of the training clips if None.
            plan: Whether to use NumPy or compiled loops; decided by the number of clips if None.

        Shape:
            - descriptors: (N, K_l) each
            - logits: (N, C)
            - prior: (C,), with a positive sum over the classes that have training clips
        """
        clips, numbers = len(next(iter(descriptors.values()))), len(self.layers) * len(self.classes)
        if clips * numbers <= _BLOCK:
            return self._judge(descriptors, logits, prior, plan)
        plan = plan or self.plan(clips)
        parts = []
        for rows in blocks(clips, numbers, _BLOCK):
            some = {layer: values[rows] for layer, values in descriptors.items()}
            parts.append(self._judge(some, None if logits is None else logits[rows], prior, plan))
        return RuleOutput.joined(parts)

    def _judge(
        self, descriptors: Mapping[str, Array], logits: Array | None, prior: Array | None, plan: Plan | None
    ) -> RuleOutput:
        fitted, present = self.fitted, self.present
        far = self.deviations(descriptors, plan)
        totals = self._total(far)
        z = evidence(far[:, :, present], fitted.expected, fitted.size_correction)
        scores, training_share = self._scores(z, totals[:, present], descriptors, logits)
        log_p = None
        if scores is not None:
            if prior is not None:
                with np.errstate(divide="ignore"):
                    scores = scores + np.log(prior[present]) - training_share * np.log(self.counts[present])
            log_p = np.full(totals.shape, -np.inf)
            log_p[:, present] = log_softmax(scores)
        by_probability = fitted.name == "fused" and log_p is not None
        choice = (
            decide(-log_p, present, logits) if by_probability and log_p is not None else self.choose(totals, logits)
        )
        u = strangeness(z)
        unknown = None if fitted.threshold is None else u > fitted.threshold.value
        return RuleOutput(choice, totals, log_p, u, unknown)

    def _scores(
        self, z: Array, totals: Array, descriptors: Mapping[str, Array], logits: Array | None
    ) -> tuple[Array | None, float]:
        """Returns scores whose softmax is the probability, and the factor of the log class frequencies in them.

        Shape:
            - z: (N, L, C'), where C' classes have training clips
            - totals, returns: (N, C')
        """
        fitted = self.fitted
        if fitted.fusion is not None:
            log_p = None if logits is None else log_softmax(logits[:, self.present])
            log_q = None if fitted.discriminant is None else fitted.discriminant.log_probabilities(descriptors)
            # with a size correction, class frequencies are in log p only
            share = 1.0 if fitted.size_correction is None else fitted.fusion.network_weight
            return fitted.fusion.scores(z, log_p, log_q), share
        if fitted.inverse_temperature is not None:
            return -fitted.inverse_temperature * np.log1p(totals), 1.0
        return None, 1.0
