"""``gramcli evaluate``: on labelled clips, what each decision is worth beside the network alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from gramcli.audio.condition import parse
from gramcli.cache import clip_table
from gramcli.cache.labelled_rows import require_extracted
from gramcli.cache.view import CLEAN
from gramcli.dataset.clip import SPLITS
from gramcli.errors import NoInputError, UsageError
from gramcli.evaluation.comparison import NETWORK, Decisions, JudgedClips
from gramcli.evaluation.ood.study import OodStudy, compare_unknown
from gramcli.extraction.conditions import extract_conditions
from gramcli.inference.rule import Rule
from gramcli.metrics import classification
from gramcli.metrics.intervals import LEAST_GROUPS, Paired, paired
from gramcli.progress import Progress, Silent
from gramcli.text import shown

FORMAT = 2

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ConditionResult:
    """Measures of every decision on the clips as they sound under one condition."""

    clips: int
    """Labelled clips that were judged."""
    failed: int
    """Labelled clips without a usable row."""
    groups: int
    decisions: Mapping[str, Mapping[str, float | None]]
    """accuracy, balanced_accuracy, macro_f1, negative_log_likelihood (nats) and brier by decision; None where a
    decision gives no probabilities."""
    confusion: Sequence[Sequence[int]]
    """Of the default decision: clips of each true class (row) by class decided (column)."""
    rejected: float | None
    """Share of these known clips that are called unknown; None without a threshold."""
    rejected_by_group: Mapping[str, float]
    comparison: Paired | None
    """Default minus network, in shares of clips right; None where they cannot be compared."""


@dataclass(frozen=True)
class Evaluation:
    """What `gramcli evaluate` found."""

    split: str
    default: str
    """The decision that classify uses; the only one that is compared with the network."""
    classes: tuple[str, ...]
    conditions: Mapping[str, ConditionResult]
    verdict: str
    """One sentence: which decision to use on this data, or why these clips cannot tell."""
    unknown: tuple[OodStudy, ...] | None
    """Unknown sounds beside the known ones of the test split; None where there are none."""

    @property
    def clean(self) -> ConditionResult:
        """The clips as they were recorded."""
        return self.conditions[CLEAN]

    def as_dict(self) -> dict[str, object]:
        """Returns the JSON document."""
        return {"format": FORMAT, **asdict(self)}


def evaluate(
    cache: Path,
    split: str = "test",
    *,
    conditions: Sequence[str] = (),
    rivals: bool = False,
    unknown: Path | None = None,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    config: Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Judges the decisions on clips of the cache; the network runs only for conditions that it has not heard yet.

    Args:
        cache: Folder of the cache.
        split: train, validation or test.
        conditions: Also judge the clips under these, e.g. ``noise:20`` (see `gramcli.audio.condition`).
        rivals: Also judge other classifiers on the same descriptors, fitted on the same clips.
        unknown: A folder of sounds of no class, to be told from the test clips, as labels held out are without it.
        flags: Settings of that run over those of the extract, by section and key.
        config: A settings file.
        progress: Told of steps and notes.

    Raises:
        UsageError: No such split or condition, or unknown sounds that are clips of the cache, or for another split than
            test.
        NoInputError: The split has no labelled, usable clip.
        ArtefactError: A stage has not run, or its result no longer fits.
        DamagedError: A file of the cache is not as it was written.
        ResourceError: Rivals are wanted, and scikit-learn is not installed.
    """
    progress = progress or Silent()
    if split not in SPLITS:
        raise UsageError(f"split is {shown(split)}; there are {', '.join(SPLITS)}")
    contenders = Decisions.of(cache, progress, with_rivals=rivals)
    strange = compare_unknown(
        cache, contenders.view, contenders.rule, split, unknown, progress, flags=flags, config=config
    )
    found = judge_conditions(cache, contenders, split, conditions, progress, flags=flags, config=config)
    return summarise(split, contenders.rule, found, strange)


def judge_conditions(
    cache: Path,
    contenders: Decisions,
    split: str,
    conditions: Sequence[str],
    progress: Progress,
    *,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    config: Path | None = None,
) -> dict[str, JudgedClips]:
    """Returns what the decisions of a cache say of a split under each condition; see `evaluate`."""
    clips = clip_table.require(cache)
    chosen = [clip for clip in clips.used(split) if clip.label]
    require_extracted(contenders.view, chosen)
    unread = sum(bool(clip.label) and clip.split == split and clip.shard is None for clip in clips.rows)
    views = {CLEAN: (contenders.view, chosen)}
    asked = [parse(text) for text in conditions]
    views |= extract_conditions(cache, asked, chosen, flags=flags, config=config, progress=progress)
    found = {}
    for name, (one, placed) in views.items():
        progress.start("evaluating", len(placed))
        found[name] = contenders.judge(one, placed, progress, unread)
        if not found[name].clips:
            raise NoInputError(f"{shown(cache)}: the {split} split has no usable labelled clip; nothing to evaluate")
    return found


def summarise(
    split: str, rule: Rule, found: Mapping[str, JudgedClips], unknown: tuple[OodStudy, ...] | None = None
) -> Evaluation:
    """Returns the measures of what was said under each condition."""
    conditions = {name: _condition(contest, rule.name, len(rule.classes)) for name, contest in found.items()}
    told = verdict(rule.name, conditions[CLEAN].comparison) if split == "test" else fitted_on(split)
    return Evaluation(split, rule.name, rule.classes, conditions, told, unknown)


def _condition(contest: JudgedClips, default: str, classes: int) -> ConditionResult:
    labels, own = contest.labels, contest.decisions[default].label
    comparison = None
    if NETWORK in contest.decisions:
        ahead = (own == labels).astype(float) - (contest.decisions[NETWORK].label == labels)
        comparison = paired(ahead, contest.groups)
    rejected: dict[str, list[bool]] = {}
    if contest.unknown is not None:
        for clip, beyond in zip(contest.clips, contest.unknown.tolist(), strict=True):
            rejected.setdefault(clip.group, []).append(beyond)
    return ConditionResult(
        clips=len(labels),
        failed=contest.failed,
        groups=len({clip.group for clip in contest.clips}),
        decisions={name: _measures(said.label, said.log_p, labels) for name, said in contest.decisions.items()},
        confusion=classification.confusion(own, labels, classes).tolist(),
        rejected=None if contest.unknown is None else float(contest.unknown.mean()),
        rejected_by_group={group: sum(of) / len(of) for group, of in sorted(rejected.items())},
        comparison=comparison,
    )


def _measures(predicted: Array, log_p: Array | None, labels: Array) -> dict[str, float | None]:
    return {
        "accuracy": classification.accuracy(predicted, labels),
        "balanced_accuracy": classification.balanced_accuracy(predicted, labels),
        "macro_f1": classification.macro_f1(predicted, labels),
        "negative_log_likelihood": None if log_p is None else classification.negative_log_likelihood(log_p, labels),
        "brier": None if log_p is None else classification.brier(log_p, labels),
    }


def fitted_on(split: str) -> str:
    """Returns what stands in place of a verdict on clips of training and validation."""
    return (
        f"Nothing can be concluded from the {split} split: statistics and rule were fitted on these clips, so the "
        "figures flatter."
    )


def verdict(default: str, comparison: Paired | None) -> str:
    """Returns one sentence that says which decision to use, and no more than the figures show."""
    if comparison is None:
        return f"The network has no outputs for these classes, so {default} is the only decision there is."
    points, on = 100 * comparison.mean, f"on {comparison.clips} clips of {comparison.groups} groups"
    if comparison.low is None or comparison.high is None:
        return (
            f"{default} is {points:+.1f} points from the network alone {on}: too few groups for an interval "
            f"(at least {LEAST_GROUPS}), so the difference is not shown."
        )
    between = f"{points:+.1f} points, 95 % interval {100 * comparison.low:+.1f} to {100 * comparison.high:+.1f}, {on}"
    if comparison.low > 0:
        return f"Use {default} on this data: it beats the network alone ({between})."
    if comparison.high < 0:
        return f"Use the network alone on this data: {default} is worse ({between})."
    return f"A difference between {default} and the network alone is not shown ({between})."
