"""How well the deviation, and other scores on the same clips, tell unknown sounds from known ones.

Known are the test clips of a cache; unknown those of labels that were held out, and the recordings of a folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache import clip_table
from gramcli.cache.clip_table import ClipTable
from gramcli.cache.labelled_rows import require_extracted
from gramcli.cache.view import View
from gramcli.dataset.clip import SPLITS, UNKNOWN, Clip
from gramcli.errors import NoInputError, UsageError
from gramcli.evaluation.ood.acoustics import AcousticMeter
from gramcli.evaluation.ood.confounders import ScoreAreas, explain
from gramcli.evaluation.ood.scored_clips import ClipScorer, ScoredClips
from gramcli.evaluation.ood.scores import DEVIATION, SPECTRUM, TRIVIAL
from gramcli.inference import bundle
from gramcli.inference.classifier import GramClassifier
from gramcli.inference.recordings import recordings_in, same_audio
from gramcli.inference.rule import Rule
from gramcli.metrics.matching import Caliper, match
from gramcli.metrics.ood import GroupedScores, aupr, auroc, auroc_interval, fpr_at_tpr
from gramcli.progress import Progress
from gramcli.settings.configure import configure
from gramcli.text import shown

Array = npt.NDArray[Any]

_LEAST = (0.02, 0.5, 0.05)
"""Differences of log-duration, level in dB and log-bandwidth that are none: 2 %, half a decibel and 5 %."""


@dataclass(frozen=True)
class OodMeasures:
    """How well one score tells unknown clips from known ones, whatever threshold is set on it."""

    auroc: float
    """0.5 says nothing."""
    aupr: float
    """Of finding unknown clips; what says nothing has their share of all clips."""
    fpr_at_95_tpr: float
    """Share of unknown clips accepted where 95 % of known clips are."""


@dataclass(frozen=True)
class ScoreResult:
    """One score on all clips and on those that could be matched."""

    all: OodMeasures
    matched: OodMeasures | None
    """None without a pair."""


@dataclass(frozen=True)
class OodStudy:
    """Unknown sounds of one origin beside the known test clips."""

    folder: str | None
    """Where they are from; None for the clips of labels that were held out."""
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
    """Pairs of a known and an unknown one, like in length, level and bandwidth."""
    scores: Mapping[str, ScoreResult]
    """The deviation first, then those of network and layers, then those of the audio alone."""
    interval: tuple[float, float] | None
    """95 % interval of the deviation's AUROC over groups; None with too few."""
    matched_interval: tuple[float, float] | None
    """The same of matched clips."""
    beyond: float | None
    """Share of these unknown clips beyond the threshold; None without one."""
    finding: str
    """told apart, explained, not told apart, too few or not compared: see `confounders.explain`."""
    verdict: str
    """The same in one sentence."""
    failed: Mapping[str, str]
    """Why files, or clips, could not be used, by path."""


def compare_unknown(
    cache: Path,
    view: View,
    rule: Rule,
    split: str,
    folder: Path | None,
    progress: Progress,
    *,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    config: Path | None = None,
) -> tuple[OodStudy, ...] | None:
    """Compares unknown sounds with the known test clips of a cache.

    Args:
        cache: Folder of the cache.
        view: Its clean view.
        rule: Its decision.
        split: What is evaluated; there are unknown sounds beside the test split only.
        folder: Recordings of other sounds, at any depth; None for the labels held out alone.
        progress: Told of tasks, steps and notes.
        flags: Settings of the network's run over those of the extract, by section and key.
        config: A settings file.

    Returns:
        The labels held out, then the folder, as far as there are any; None without either.

    Raises:
        NoInputError: The folder holds no recording that can be used, or there is no usable test clip.
        UsageError: Files of the folder are clips of the cache, or the split is another than test.
        ArtefactError: The network cannot be run, or clips are not extracted yet.
        DamagedError: A file of the cache is not as it was written.
    """
    if folder is not None and split != "test":
        raise UsageError(f"unknown sounds are compared with the test split, not with {split}; leave out one of the two")
    clips = clip_table.require(cache)
    held = clips.used(UNKNOWN) if split == "test" else []
    if folder is None and not held:
        return None
    paths = [] if folder is None else recordings_in(folder)
    if folder is not None:
        bundle.require_network(cache, view)
        _require_strange(folder, paths, clips)
    present = {label for label, there in zip(rule.classes, rule.present, strict=True) if there}
    training, known = ([clip for clip in clips.used(split) if clip.label in present] for split in ("train", "test"))
    strangers = sum(bool(clip.label) for clip in clips.used("test")) - len(known)
    if strangers:
        progress.note(f"{strangers} test clips of labels without training clips are neither known nor unknown sounds")
    require_extracted(view, [*training, *known, *held])
    judge = ClipScorer(view, rule, training, progress)
    known, strange = judge.usable(known), judge.usable(held)
    if not known:
        raise NoInputError(
            f"{shown(cache)}: no usable test clip of a known class; nothing to compare unknown sounds with"
        )
    heard = None
    if "settings" in view.recorded:
        settings = configure(
            flags or {}, config=config, remembered=view.recorded["settings"], standalone=True, weights=False
        )
        heard = (
            judge.listen(AcousticMeter(settings), known, strange)
            if strange
            else judge.listen(AcousticMeter(settings), known)
        )
    else:
        progress.note(
            "descriptors were computed elsewhere: scores that need audio are left out, and nothing is matched"
        )
    ours = judge.of_cache(known, None if heard is None else heard[0])
    found: list[OodStudy] = []
    if strange:
        theirs = judge.of_cache(strange, None if heard is None else heard[1])
        failed = _failed(clips, held, strange)
        labels = tuple(sorted({clip.label for clip in strange}))
        found.append(_compare(ours, theirs, None, labels, len(strange) + len(failed), failed))
    elif held:
        progress.note("no clip of the labels held out is usable")
    if folder is not None:
        classifier = GramClassifier.of(bundle.of_view(view, rule), flags, config)
        side, failed = judge.of_files(classifier, paths)
        if side is None:
            path, reason = next(iter(failed.items()))
            raise NoInputError(f"{len(failed)} of {len(paths)} files failed; the first, {shown(path)}: {reason}")
        found.append(_compare(ours, side, str(folder), (), len(paths), failed))
    return tuple(found) or None


def _require_strange(folder: Path, paths: Sequence[str], clips: ClipTable) -> None:
    same = same_audio(paths, clips.used(*SPLITS))
    if same:
        path, clip = next(iter(same.items()))
        raise UsageError(
            f"{shown(folder)}: {len(same)} of {len(paths)} files are clips of the cache (the first, {shown(path)}, "
            f"{clip.split}), so these sounds are known; name a folder of others"
        )


def _failed(clips: ClipTable, held: Sequence[Clip], usable: Sequence[Clip]) -> dict[str, str]:
    there = {clip.key for clip in usable}
    unread = [clip for clip in clips.rows if clip.split == UNKNOWN and clip.shard is None]
    return {clip.path: clip.error for clip in unread} | {
        clip.path: "failed in extract" for clip in held if clip.key not in there
    }


def _compare(
    known: ScoredClips,
    unknown: ScoredClips,
    folder: str | None,
    labels: tuple[str, ...],
    files: int,
    failed: Mapping[str, str],
) -> OodStudy:
    kept = np.empty(0, np.intp), np.empty(0, np.intp)
    if known.measures is not None and unknown.measures is not None:
        kept = match(_features(known.measures), _features(unknown.measures), Caliper(least=_LEAST))
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
    whole = _areas({name: score.all for name, score in scores.items()}, interval)
    both = {name: score.matched for name, score in scores.items() if score.matched is not None}
    matched = _areas(both, matched_interval) if both else None
    finding, verdict = explain(whole, matched, pairs, len(known.groups), len(unknown.groups))
    return OodStudy(
        folder,
        labels,
        files,
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
        failed,
    )


def _areas(found: Mapping[str, OodMeasures], interval: tuple[float, float] | None) -> ScoreAreas:
    return ScoreAreas(
        found[DEVIATION].auroc,
        interval,
        {name: found[name].auroc for name in TRIVIAL if name in found},
        found[SPECTRUM].auroc if SPECTRUM in found else None,
    )


def _features(measures: Mapping[str, Array]) -> Array:
    """Length, level and bandwidth on scales on which a difference means the same everywhere, (N, 3)."""
    # silence has no bandwidth; 1 Hz is far from all else
    broad = np.log(np.maximum(measures["bandwidth"], 1.0))
    return np.stack([np.log(measures["duration"]), measures["level"], broad], axis=1)


Places = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]


def _detection(known: ScoredClips, unknown: ScoredClips, name: str, some: Places) -> OodMeasures:
    pair = known.scores[name][some[0]], unknown.scores[name][some[1]]
    return OodMeasures(auroc(*pair), aupr(*pair), fpr_at_tpr(*pair))


def _interval(known: ScoredClips, unknown: ScoredClips, some: Places) -> tuple[float, float] | None:
    sides = (
        GroupedScores(side.scores[DEVIATION][which], side.groups[which])
        for side, which in ((known, some[0]), (unknown, some[1]))
    )
    return auroc_interval(*sides)
