"""Compares classifiers on the labelled clips of one condition: the network, its rescaled form, rules and baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache import decision as decisions
from gramcli.cache.calibrated import CalibratedCache
from gramcli.cache.labelled_rows import read_rows
from gramcli.cache.view import View
from gramcli.dataset.clip import Clip
from gramcli.evaluation.fitted_baselines import FittedBaselines
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.fitting.temperature import fit_inverse_temperature
from gramcli.gram.kernels import Plan
from gramcli.inference.rule import Rule
from gramcli.progress import Progress

NETWORK = "map"
"""The network alone: its most probable class."""
TEMPERATURE = "temperature"
"""The network alone, with its probabilities rescaled by one temperature."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class DecisionOutput:
    """The result of one decision for N clips."""

    label: npt.NDArray[np.intp]
    """Class that was chosen, (N,)."""
    log_p: Array | None
    """Log-probabilities, (N, C); None if the decision gives none."""


@dataclass(frozen=True, eq=False)
class JudgedClips:
    """Usable clips in the order of their keys, and the results of all decisions for them."""

    clips: tuple[Clip, ...]
    labels: npt.NDArray[np.intp]
    """True class, (N,); -2 if the rule does not have this class."""
    decisions: Mapping[str, DecisionOutput]
    """Results by name of the decision: first the network, then the rules, the fitted one last, then the baselines."""
    unknown: npt.NDArray[np.bool_] | None
    """Whether the strangeness is above the threshold, (N,); None without a threshold."""
    failed: int
    """Number of labelled clips without a usable row."""

    @property
    def groups(self) -> npt.NDArray[np.intp]:
        """Index of each clip's group, (N,)."""
        return np.unique([clip.group for clip in self.clips], return_inverse=True)[1].astype(np.intp)

    @staticmethod
    def pooled(parts: Sequence[JudgedClips]) -> JudgedClips:
        """Joins the clips of several caches, each with its own rule. Only decisions that all caches have are kept."""
        unknown = [part.unknown for part in parts if part.unknown is not None]
        return JudgedClips(
            tuple(clip for part in parts for clip in part.clips),
            np.concatenate([part.labels for part in parts]),
            {
                name: _joined([part.decisions[name] for part in parts])
                for name in parts[0].decisions
                if all(name in part.decisions for part in parts)
            },
            np.concatenate(unknown) if len(unknown) == len(parts) else None,
            sum(part.failed for part in parts),
        )


def _joined(parts: Sequence[DecisionOutput]) -> DecisionOutput:
    log_p = [part.log_p for part in parts if part.log_p is not None]
    return DecisionOutput(
        np.concatenate([part.label for part in parts]), np.concatenate(log_p) if len(log_p) == len(parts) else None
    )


@dataclass(frozen=True, eq=False)
class Decisions:
    """All decisions of a calibrated cache, for the rows of any of its views."""

    source: CalibratedCache
    rule: Rule
    inverse_temperature: float | None
    """Factor of the network's logits, fitted on validation clips; None if the outputs are not the classes."""
    baselines: FittedBaselines | None

    @classmethod
    def of(cls, cache: Path, progress: Progress, *, with_rivals: bool = False) -> Decisions:
        """Reads the stored decision, and fits the temperature and, if asked for, the baselines.

        Raises:
            ArtefactError: A command has not run yet, or its result does not fit any more.
            DamagedError: A file of the cache is damaged.
            NoInputError: There is no usable training clip to fit baselines on.
            ResourceError: Baselines are asked for, and scikit-learn is not installed.
        """
        source = CalibratedCache.open(cache)
        statistics = source.statistics
        rule = Rule.of(statistics, decisions.load(cache, statistics))
        factor, validation = None, statistics.validation
        if validation.logits.shape[1] == len(statistics.classes):
            factor = fit_inverse_temperature(log_softmax(validation.logits), validation.labels)
        return cls(source, rule, factor, FittedBaselines.fit(source, rule, progress) if with_rivals else None)

    @property
    def view(self) -> View:
        """The clean view."""
        return self.source.view

    def judge(self, view: View, clips: Sequence[Clip], progress: Progress, unread: int = 0) -> JudgedClips:
        """Applies all decisions to the clips of a view, shard by shard. Failed clips are left out.

        Args:
            view: View that holds the rows.
            clips: Labelled clips.
            progress: Receives clips as they are classified.
            unread: Number of labelled clips that have no row.

        Raises:
            DamagedError: A file of the cache is damaged.
        """
        rule, baselines = self.rule, self.baselines
        index = {label: n for n, label in enumerate(rule.classes)}
        judged: list[Clip] = []
        parts: list[tuple[dict[str, DecisionOutput], Array | None]] = []
        with_means = baselines is not None and view.with_means
        plan = rule.plan(len(clips))
        for group, rows, where in read_rows(view, clips, rule.layers, progress.advance, with_means=with_means):
            if not group:
                continue
            logits = rows.logits[where] if view.outputs else None
            descriptors = {layer: rows.descriptors[layer][where] for layer in rule.layers}
            results, unknown = self._apply(descriptors, logits, plan)
            if baselines is not None:
                means = {layer: values[where] for layer, values in rows.means.items()}
                for name, log_p in baselines.log_probabilities(descriptors, means, logits).items():
                    results[name] = DecisionOutput(log_p.argmax(axis=1), log_p)
            parts.append((results, unknown))
            judged += group
        # in the order of the keys, so that shards make no difference
        order = np.array(sorted(range(len(judged)), key=lambda n: (judged[n].key, judged[n].id)), np.intp)
        joined = {name: _joined([results[name] for results, _ in parts]) for name in (parts[0][0] if parts else ())}
        unknown_parts = [unknown for _, unknown in parts if unknown is not None]
        return JudgedClips(
            tuple(judged[n] for n in order),
            np.array([index.get(judged[n].label, -2) for n in order], np.intp),
            {
                name: DecisionOutput(one.label[order], None if one.log_p is None else one.log_p[order])
                for name, one in joined.items()
            },
            np.concatenate(unknown_parts)[order] if unknown_parts else None,
            len(clips) - len(judged) + unread,
        )

    def _apply(
        self, descriptors: Mapping[str, Array], logits: Array | None, plan: Plan
    ) -> tuple[dict[str, DecisionOutput], Array | None]:
        """Returns the results of network and rules for some clips, and which clips are above the threshold."""
        results: dict[str, DecisionOutput] = {}
        if logits is not None:
            results[NETWORK] = DecisionOutput(logits.argmax(axis=1), log_softmax(logits))
            if self.inverse_temperature is not None:
                scaled = log_softmax(logits * self.inverse_temperature)
                results[TEMPERATURE] = DecisionOutput(results[NETWORK].label, scaled)
        output = self.rule.judge(descriptors, logits, plan=plan)
        of_rule = DecisionOutput(output.choice.label, output.log_p)
        if self.rule.name == "gram":
            results["gram"] = of_rule
        else:
            results["gram"] = DecisionOutput(self.rule.choose(output.deviations, logits).label, None)
            results[self.rule.name] = of_rule
        return results, output.unknown
