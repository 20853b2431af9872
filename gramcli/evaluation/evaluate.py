"""``gramcli evaluate``: measures each decision on labelled clips and compares the default with the network alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from gramcli.audio.condition import Condition, parse
from gramcli.cache.labelled_rows import require_extracted
from gramcli.cache.view import CLEAN
from gramcli.dataset.clip import SPLITS
from gramcli.errors import NoInputError, UsageError
from gramcli.evaluation.comparison import NETWORK, DecisionOutput, Decisions, JudgedClips
from gramcli.evaluation.ood.study import OodStudy, compare_unknown
from gramcli.extraction.conditions import extract_conditions
from gramcli.inference.rule import Rule
from gramcli.metrics import classification
from gramcli.metrics.intervals import MIN_GROUPS, Paired, paired
from gramcli.settings.run_context import RunContext
from gramcli.text import shown

FORMAT = 2
MAX_MATRIX = 1000
"""Largest number of classes whose confusion matrix is given as a matrix, which has a million cells then."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ConditionResult:
    """Measures of every decision on the clips under one condition."""

    clips: int
    """Labelled clips that were judged."""
    failed: int
    """Labelled clips without a usable row."""
    groups: int
    decisions: Mapping[str, Mapping[str, float | None]]
    """accuracy, balanced_accuracy, macro_f1, negative_log_likelihood (nats) and brier by decision; None where a
    decision gives no probabilities."""
    confusion: Sequence[Sequence[int]] | None
    """Confusion matrix of the default decision: clips by true class (rows) and predicted class (columns). None with
    more than `MAX_MATRIX` classes."""
    confused: Sequence[Sequence[int]] | None
    """With more than `MAX_MATRIX` classes, the cells of this matrix that are not 0: true class, predicted class, and
    number of clips. Else None."""
    rejected: float | None
    """Share of these known clips that are called unknown; None without a threshold."""
    rejected_by_group: Mapping[str, float]
    comparison: Paired | None
    """Accuracy of the default minus that of the network; None where they cannot be compared."""


@dataclass(frozen=True)
class Evaluation:
    """Outcome of `gramcli evaluate`."""

    split: str
    default: str
    """The decision that classify uses; the only one that is compared with the network."""
    classes: tuple[str, ...]
    conditions: Mapping[str, ConditionResult]
    verdict: str
    """One sentence: which decision to use on this data, or why these clips cannot show that."""
    unknown: tuple[OodStudy, ...] | None
    """How well unknown sounds are distinguished from the known ones of the test split; None where there are none."""

    @property
    def clean(self) -> ConditionResult:
        """The clips as they were recorded."""
        return self.conditions[CLEAN]

    def as_dict(self) -> dict[str, object]:
        """Returns the JSON document."""
        return {"format": FORMAT, **asdict(self)}


def evaluate(
    cache: str | Path = ".gramcli",
    split: str = "test",
    *,
    conditions: Sequence[str] = (),
    rivals: bool = False,
    unknown: str | Path | None = None,
    context: RunContext | None = None,
) -> Evaluation:
    """Measures the decisions on clips of the cache; the network runs only for conditions not extracted yet.

    Args:
        cache: Folder of the cache.
        split: train, validation or test.
        conditions: Also evaluate under these conditions, e.g. ``noise:20`` (see `gramcli.audio.condition`).
        rivals: Also evaluate other classifiers, fitted on the descriptors of the same clips.
        unknown: A folder of sounds of no class, to be compared with the test clips. Clips of labels that were held out
            are compared with them in any case.
        context: Settings of how to run the network, and progress.

    Raises:
        UsageError: No such split or condition, or unknown sounds that are clips of the cache, or for another split than
            test.
        NoInputError: The split has no labelled, usable clip.
        ArtefactError: The cache is not calibrated, or has changed since.
        DamagedError: A file of the cache is not as it was written.
        ResourceError: Rivals are wanted, and scikit-learn is not installed.
    """
    context, cache = context or RunContext(), Path(cache)
    if split not in SPLITS:
        raise UsageError(f"there is no split {shown(split)}; there are {', '.join(SPLITS)}")
    parsed = [parse(text) for text in conditions]
    decisions = Decisions.of(cache, context.progress, with_rivals=rivals)
    studies = compare_unknown(decisions, split, None if unknown is None else Path(unknown), context)
    found = judge_conditions(decisions, split, parsed, context)
    return summarise(split, decisions.rule, found, studies)


def judge_conditions(
    decisions: Decisions, split: str, conditions: Sequence[Condition], context: RunContext
) -> dict[str, JudgedClips]:
    """Returns the decisions on the clips of a split, by condition, the clean one first; see `evaluate`."""
    cache, clips = decisions.source.folder, decisions.source.clips
    chosen = [clip for clip in clips.used(split) if clip.label]
    require_extracted(decisions.view, chosen)
    unread = sum(bool(clip.label) and clip.split == split and clip.shard is None for clip in clips.rows)
    views = {CLEAN: (decisions.view, chosen)}
    views |= extract_conditions(cache, conditions, chosen, context)
    found = {}
    for name, (view, located) in views.items():
        context.progress.start("evaluating", len(located))
        found[name] = decisions.judge(view, located, context.progress, unread)
        if not found[name].clips:
            raise NoInputError(f"{shown(cache)}: the {split} split has no labelled clip that can be used")
    return found


def summarise(
    split: str, rule: Rule, found: Mapping[str, JudgedClips], unknown: tuple[OodStudy, ...] | None = None
) -> Evaluation:
    """Returns the measures of the decisions under each condition."""
    conditions = {name: _condition(judged, rule.name, len(rule.classes)) for name, judged in found.items()}
    sentence = verdict(rule.name, conditions[CLEAN].comparison) if split == "test" else fitted_on(split)
    return Evaluation(split, rule.name, rule.classes, conditions, sentence, unknown)


def _condition(judged: JudgedClips, default: str, classes: int) -> ConditionResult:
    labels, own = judged.labels, judged.decisions[default].label
    comparison = None
    if NETWORK in judged.decisions:
        ahead = (own == labels).astype(float) - (judged.decisions[NETWORK].label == labels)
        comparison = paired(ahead, judged.groups)
    rejected: dict[str, list[bool]] = {}
    if judged.unknown is not None:
        for clip, beyond in zip(judged.clips, judged.unknown.tolist(), strict=True):
            rejected.setdefault(clip.group, []).append(beyond)
    return ConditionResult(
        clips=len(labels),
        failed=judged.failed,
        groups=len({clip.group for clip in judged.clips}),
        decisions={name: _measures(one, labels) for name, one in judged.decisions.items()},
        confusion=classification.confusion(own, labels, classes).tolist() if classes <= MAX_MATRIX else None,
        confused=classification.confused(own, labels, classes).tolist() if classes > MAX_MATRIX else None,
        rejected=None if judged.unknown is None else float(judged.unknown.mean()),
        rejected_by_group={group: sum(of) / len(of) for group, of in sorted(rejected.items())},
        comparison=comparison,
    )


def _measures(output: DecisionOutput, labels: Array) -> dict[str, float | None]:
    predicted, surprise, squared_error = output.label, output.surprise, output.squared_error
    return {
        "accuracy": classification.accuracy(predicted, labels),
        "balanced_accuracy": classification.balanced_accuracy(predicted, labels),
        "macro_f1": classification.macro_f1(predicted, labels),
        "negative_log_likelihood": None if surprise is None else classification.mean(surprise),
        "brier": None if squared_error is None else classification.mean(squared_error),
    }


def fitted_on(split: str) -> str:
    """Returns the sentence that replaces a verdict on training and validation clips."""
    return (
        f"Nothing can be concluded from the {split} split: statistics and rule were fitted on these clips, so the "
        "figures are too good."
    )


def verdict(default: str, comparison: Paired | None) -> str:
    """Returns one sentence that says which decision to use, as far as the figures show it."""
    if comparison is None:
        return f"The network has no outputs for these classes, so {default} is the only decision there is."
    points, on = 100 * comparison.mean, f"on {comparison.clips} clips of {comparison.groups} groups"
    if comparison.low is None or comparison.high is None:
        return (
            f"{default} is {points:+.1f} points from the network alone {on}: too few groups for an interval "
            f"(at least {MIN_GROUPS}), so the difference is not shown."
        )
    between = f"{points:+.1f} points, 95 % interval {100 * comparison.low:+.1f} to {100 * comparison.high:+.1f}, {on}"
    if comparison.low > 0:
        return f"Use {default} on this data: it beats the network alone ({between})."
    if comparison.high < 0:
        return f"Use the network alone on this data: {default} is worse ({between})."
    return f"A difference between {default} and the network alone is not shown ({between})."
