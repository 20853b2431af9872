"""Measures how well the strangeness, and other scores on the same clips, separate unknown sounds from known ones.

The known sounds are the test clips of a cache. The unknown ones are clips of labels that were held out, and the
recordings of a folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache.clip_table import ClipTable
from gramcli.cache.labelled_rows import require_extracted
from gramcli.dataset.clip import SPLITS, UNKNOWN, Clip
from gramcli.errors import NoInputError, UsageError
from gramcli.evaluation.comparison import Decisions
from gramcli.evaluation.ood.acoustics import AcousticMeter
from gramcli.evaluation.ood.confounders import ScoreAreas, explain
from gramcli.evaluation.ood.scored_clips import ClipScorer, ScoredClips
from gramcli.evaluation.ood.scores import SPECTRUM, STRANGENESS, TRIVIAL
from gramcli.extraction.reopen import require_network
from gramcli.inference import bundle
from gramcli.inference.classifier import GramClassifier
from gramcli.inference.recordings import recordings_in, same_audio
from gramcli.metrics.matching import Caliper, match
from gramcli.metrics.ood import GroupedScores, aupr, auroc, auroc_interval, fpr_at_tpr
from gramcli.settings.configure import configure_stored
from gramcli.settings.run_context import RunContext
from gramcli.text import shown

Array = npt.NDArray[Any]

_MIN_DIFFERENCES = (0.02, 0.5, 0.05)
"""Differences of log-duration, level in dB and log-bandwidth that are ignored: 2 %, half a decibel and 5 %."""


@dataclass(frozen=True)
class OodMeasures:
    """How well one score distinguishes unknown clips from known ones, whatever threshold is set on it."""

    auroc: float
    """0.5 for a score without information."""
    aupr: float
    """Area under the precision-recall curve of finding unknown clips; their share for a score without information."""
    fpr_at_95_tpr: float
    """Share of unknown clips accepted where 95 % of known clips are."""


@dataclass(frozen=True)
class ScoreResult:
    """One score on all clips and on the matched pairs."""

    all: OodMeasures
    matched: OodMeasures | None
    """None without a pair."""


@dataclass(frozen=True)
class OodStudy:
    """Unknown sounds of one origin, compared with the known test clips."""

    folder: str | None
    """The folder of the unknown sounds; None for clips of labels that were held out."""
    labels: tuple[str, ...]
    """Labels that were held out; none for a folder."""
    files: int
    """Files of the folder, or clips that were held out."""
    known: int
    """Clips."""
    known_groups: int
    unknown: int
    """Windows of a folder's recordings, or clips."""
    unknown_groups: int
    """Files of the folder, or sources of the clips."""
    matched: int
    """Pairs of a known and an unknown one of similar length, level and bandwidth."""
    scores: Mapping[str, ScoreResult]
    """The strangeness first, then those of network and layers, then those of the audio alone."""
    interval: tuple[float, float] | None
    """95 % interval of the strangeness's AUROC over groups; None with too few."""
    matched_interval: tuple[float, float] | None
    """The same for matched pairs."""
    beyond: float | None
    """Share of these unknown clips above the threshold; None without a threshold."""
    finding: str
    """told apart, explained, not told apart, too few or not compared: see `gramcli.evaluation.ood.confounders`."""
    verdict: str
    """The same in one sentence."""
    failed: Mapping[str, str]
    """Why files, or clips, could not be used, by path."""


@dataclass(frozen=True)
class UnknownSounds:
    """Where unknown sounds come from; the fields are those of `OodStudy`."""

    folder: str | None
    labels: tuple[str, ...]
    files: int
    failed: Mapping[str, str]


def compare_unknown(
    decisions: Decisions, split: str, folder: Path | None, context: RunContext
) -> tuple[OodStudy, ...] | None:
    """Compares unknown sounds with the known test clips of a cache.

    Args:
        decisions: The cache and its rule.
        split: The split that is evaluated; unknown sounds are compared with the test split only.
        folder: Recordings of unknown sounds, also in its sub-folders; None for the labels held out alone.
        context: Settings of how to run the network, and progress.

    Returns:
        A study of the labels held out, then one of the folder, if there are any; None without either.

    Raises:
        NoInputError: The folder holds no recording that can be used, or there is no usable test clip.
        UsageError: Files of the folder are clips of the cache, or the split is another than test.
        ArtefactError: The network cannot be run, or clips are not extracted yet.
        DamagedError: A file of the cache is not as it was written.
    """
    if folder is not None and split != "test":
        raise UsageError(
            f"--unknown compares sounds with the test split, not with {split}; leave out --unknown or --split"
        )
    view, rule, progress = decisions.view, decisions.rule, context.progress
    clips = decisions.source.clips
    held = clips.used(UNKNOWN) if split == "test" else []
    if folder is None and not held:
        return None
    paths = [] if folder is None else recordings_in(folder)
    if folder is not None:
        require_network(view)
        _require_unknown(folder, paths, clips)
    present = {label for label, there in zip(rule.classes, rule.present, strict=True) if there}
    training, known = ([clip for clip in clips.used(split) if clip.label in present] for split in ("train", "test"))
    untrained = sum(bool(clip.label) for clip in clips.used("test")) - len(known)
    if untrained:
        progress.note(
            f"{untrained} test clips have labels without training clips; they count neither as known nor as unknown "
            "sounds"
        )
    require_extracted(view, [*training, *known, *held])
    scorer = ClipScorer(view, rule, training, progress)
    known, unknown = scorer.usable(known), scorer.usable(held)
    if not known:
        raise NoInputError(
            f"{shown(decisions.source.folder)}: the test split has no usable clip of a known class, with which unknown "
            "sounds would be compared"
        )
    acoustics = None
    if "settings" in view.recorded:
        meter = AcousticMeter(configure_stored(context, view.recorded["settings"]))
        acoustics = scorer.measure_audio(meter, known, *([unknown] if unknown else []))
    else:
        progress.note(
            "the descriptors were computed elsewhere: scores that need the audio are left out, and no pairs are matched"
        )
    known_scores = scorer.of_cache(known, None if acoustics is None else acoustics[0])
    found: list[OodStudy] = []
    if unknown:
        scores = scorer.of_cache(unknown, None if acoustics is None else acoustics[1])
        failed = _failed(clips, held, unknown)
        labels = tuple(sorted({clip.label for clip in unknown}))
        found.append(_compare(known_scores, scores, UnknownSounds(None, labels, len(unknown) + len(failed), failed)))
    elif held:
        progress.note("no clip of the labels held out can be used")
    if folder is not None:
        classifier = GramClassifier.of(bundle.of_view(view, rule), context)
        file_scores, failed = scorer.of_files(classifier, paths)
        if file_scores is None:
            path, reason = next(iter(failed.items()))
            raise NoInputError(f"{len(failed)} of {len(paths)} files failed; the first, {shown(path)}: {reason}")
        found.append(_compare(known_scores, file_scores, UnknownSounds(str(folder), (), len(paths), failed)))
    return tuple(found) or None


def _require_unknown(folder: Path, paths: Sequence[str], clips: ClipTable) -> None:
    same = same_audio(paths, clips.used(*SPLITS))
    if same:
        path, clip = next(iter(same.items()))
        raise UsageError(
            f"{shown(folder)}: {len(same)} of {len(paths)} files are clips of the cache (the first, {shown(path)}, "
            f"{clip.split}), so these sounds are known; name a folder of other sounds"
        )


def _failed(clips: ClipTable, held: Sequence[Clip], usable: Sequence[Clip]) -> dict[str, str]:
    keys = {clip.key for clip in usable}
    unread = [clip for clip in clips.rows if clip.split == UNKNOWN and clip.shard is None]
    return {clip.path: clip.error for clip in unread} | {
        clip.path: "failed in extract" for clip in held if clip.key not in keys
    }


def _compare(known: ScoredClips, unknown: ScoredClips, sounds: UnknownSounds) -> OodStudy:
    kept = np.empty(0, np.intp), np.empty(0, np.intp)
    if known.measures is not None and unknown.measures is not None:
        kept = match(_features(known.measures), _features(unknown.measures), Caliper(least=_MIN_DIFFERENCES))
    pairs = len(kept[0])
    everyone = np.arange(len(known.groups)), np.arange(len(unknown.groups))
    scores = {
        name: ScoreResult(
            _detection(known, unknown, name, everyone), _detection(known, unknown, name, kept) if pairs else None
        )
        for name in known.scores
        if name in unknown.scores
    }
    interval, matched_interval = _interval(known, unknown, everyone), _interval(known, unknown, kept)
    all_clips = _areas({name: score.all for name, score in scores.items()}, interval)
    on_pairs = {name: score.matched for name, score in scores.items() if score.matched is not None}
    matched = _areas(on_pairs, matched_interval) if on_pairs else None
    finding, verdict = explain(all_clips, matched, pairs, len(known.groups), len(unknown.groups))
    return OodStudy(
        sounds.folder,
        sounds.labels,
        sounds.files,
        len(known.groups),
        len(np.unique(known.groups)),
        len(unknown.groups),
        len(np.unique(unknown.groups)),
        pairs,
        scores,
        interval,
        matched_interval,
        None if unknown.beyond is None else float(unknown.beyond.mean()),
        finding,
        verdict,
        sounds.failed,
    )


def _areas(found: Mapping[str, OodMeasures], interval: tuple[float, float] | None) -> ScoreAreas:
    return ScoreAreas(
        found[STRANGENESS].auroc,
        interval,
        {name: found[name].auroc for name in TRIVIAL if name in found},
        found[SPECTRUM].auroc if SPECTRUM in found else None,
    )


def _features(measures: Mapping[str, Array]) -> Array:
    """Returns log-length, level and log-bandwidth, on scales where equal differences mean the same, (N, 3)."""
    # silence has bandwidth 0, which has no logarithm
    broad = np.log(np.maximum(measures["bandwidth"], 1.0))
    return np.stack([np.log(measures["duration"]), measures["level"], broad], axis=1)


Rows = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]
"""Which known and which unknown clips are compared."""


def _detection(known: ScoredClips, unknown: ScoredClips, name: str, rows: Rows) -> OodMeasures:
    pair = known.scores[name][rows[0]], unknown.scores[name][rows[1]]
    return OodMeasures(auroc(*pair), aupr(*pair), fpr_at_tpr(*pair))


def _interval(known: ScoredClips, unknown: ScoredClips, rows: Rows) -> tuple[float, float] | None:
    both = (
        GroupedScores(side.scores[STRANGENESS][which], side.groups[which])
        for side, which in ((known, rows[0]), (unknown, rows[1]))
    )
    return auroc_interval(*both)
