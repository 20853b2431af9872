"""Compares classifiers on the labelled clips of one condition: the network, its rescaled form, rules and baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.blocks import blocks
from gramcli.cache import decision as decisions
from gramcli.cache.calibrated import CalibratedCache
from gramcli.cache.labelled_rows import read_rows
from gramcli.cache.shard import Shard
from gramcli.cache.view import View
from gramcli.dataset.clip import Clip
from gramcli.evaluation.fitted_baselines import FittedBaselines
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.fitting.temperature import fit_inverse_temperature
from gramcli.gram.kernels import Plan
from gramcli.inference.rule import Rule
from gramcli.metrics import classification
from gramcli.progress import Progress

NETWORK = "map"
"""The network alone: its most probable class."""
TEMPERATURE = "temperature"
"""The network alone, with its probabilities rescaled by one temperature."""

_BLOCK = 1 << 22
"""Scores of one decision that are in memory at a time."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class DecisionOutput:
    """The result of one decision for N clips."""

    label: npt.NDArray[np.intp]
    """Class that was chosen, (N,)."""
    surprise: Array | None
    """-log p of the true class in nats, (N,); NaN if the rule does not have this class. None if the decision gives no
    probabilities. They themselves are not kept, as clips and classes can be many."""
    squared_error: Array | None
    """Brier score of each clip, (N,); NaN and None likewise."""

    @classmethod
    def of(cls, label: Array, log_p: Array | None, truth: Array) -> DecisionOutput:
        """Compares labels (N,) and log-probabilities (N, C) with the true classes, (N,)."""
        if log_p is None:
            return cls(label, None, None)
        return cls(label, classification.surprise(log_p, truth), classification.squared_error(log_p, truth))

    @classmethod
    def joined(cls, parts: Sequence[DecisionOutput]) -> DecisionOutput:
        """Joins the results for some clips after another. There are probabilities if all parts have them."""
        surprise = [part.surprise for part in parts if part.surprise is not None]
        squared_error = [part.squared_error for part in parts if part.squared_error is not None]
        with_p = len(surprise) == len(parts)
        return cls(
            np.concatenate([part.label for part in parts]),
            np.concatenate(surprise) if with_p else None,
            np.concatenate(squared_error) if with_p else None,
        )

    def take(self, clips: npt.NDArray[np.intp]) -> DecisionOutput:
        """Returns the results for some clips."""
        return DecisionOutput(
            self.label[clips],
            None if self.surprise is None else self.surprise[clips],
            None if self.squared_error is None else self.squared_error[clips],
        )


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
                name: DecisionOutput.joined([part.decisions[name] for part in parts])
                for name in parts[0].decisions
                if all(name in part.decisions for part in parts)
            },
            np.concatenate(unknown) if len(unknown) == len(parts) else None,
            sum(part.failed for part in parts),
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
        rule = self.rule
        index = {label: n for n, label in enumerate(rule.classes)}
        judged: list[Clip] = []
        parts: list[tuple[dict[str, DecisionOutput], Array | None]] = []
        with_means = self.baselines is not None and view.with_means
        plan = rule.plan(len(clips))
        for group, rows, where in read_rows(view, clips, rule.layers, progress.advance, with_means=with_means):
            if not group:
                continue
            truth = np.array([index.get(clip.label, -2) for clip in group], np.intp)
            for some in blocks(len(group), len(rule.classes), _BLOCK):
                parts.append(self._apply(rows, where[some], truth[some], plan))
            judged += group
        # in the order of the keys, so that shards make no difference
        order = np.array(sorted(range(len(judged)), key=lambda n: (judged[n].key, judged[n].id)), np.intp)
        joined = {
            name: DecisionOutput.joined([results[name] for results, _ in parts])
            for name in (parts[0][0] if parts else ())
        }
        unknown_parts = [unknown for _, unknown in parts if unknown is not None]
        return JudgedClips(
            tuple(judged[n] for n in order),
            np.array([index.get(judged[n].label, -2) for n in order], np.intp),
            {name: one.take(order) for name, one in joined.items()},
            np.concatenate(unknown_parts)[order] if unknown_parts else None,
            len(clips) - len(judged) + unread,
        )

    def _apply(
        self, rows: Shard, where: npt.NDArray[np.intp], truth: npt.NDArray[np.intp], plan: Plan
    ) -> tuple[dict[str, DecisionOutput], Array | None]:
        """Returns the results of all decisions for some rows of a shard, and which clips are above the threshold."""
        results: dict[str, DecisionOutput] = {}
        logits = rows.logits[where] if self.view.outputs else None
        descriptors = {layer: rows.descriptors[layer][where] for layer in self.rule.layers}
        if logits is not None:
            label = logits.argmax(axis=1)
            results[NETWORK] = DecisionOutput.of(label, log_softmax(logits), truth)
            if self.inverse_temperature is not None:
                scaled = log_softmax(logits * self.inverse_temperature)
                results[TEMPERATURE] = DecisionOutput.of(label, scaled, truth)
        output = self.rule.judge(descriptors, logits, plan=plan)
        of_rule = DecisionOutput.of(output.choice.label, output.log_p, truth)
        if self.rule.name == "gram":
            results["gram"] = of_rule
        else:
            results["gram"] = DecisionOutput.of(self.rule.choose(output.deviations, logits).label, None, truth)
            results[self.rule.name] = of_rule
        if self.baselines is not None:
            means = {layer: values[where] for layer, values in rows.means.items()}
            for name, log_p in self.baselines.log_probabilities(descriptors, means, logits).items():
                results[name] = DecisionOutput.of(log_p.argmax(axis=1), log_p, truth)
        return results, output.unknown
