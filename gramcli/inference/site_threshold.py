"""``gramcli select-layers --threshold-from``: the threshold of the unknown, set on the ordinary sound of one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gramcli.cache import decision as decisions
from gramcli.cache.calibrated import CalibratedCache
from gramcli.cache.decision import Decision
from gramcli.cache.statistics import Statistics
from gramcli.calibration.select_layers import make_decision
from gramcli.errors import UsageError
from gramcli.inference import bundle
from gramcli.inference.classifier import GramClassifier
from gramcli.inference.recordings import judge_recordings, recordings_in, same_audio
from gramcli.inference.rule import Rule
from gramcli.progress import Progress, Silent
from gramcli.rule.threshold import Threshold, least_groups, threshold
from gramcli.settings.schema import DecisionSettings
from gramcli.system.durable_files import lock
from gramcli.text import shown


@dataclass(frozen=True)
class SiteSelection:
    """A decision with the threshold of a place."""

    decision: Decision
    statistics: Statistics
    files: int
    """All files of the folder."""
    failed: Mapping[str, str]
    """Why files of the folder could not be used, by path."""


def select_layers_at(
    cache: Path,
    folder: Path,
    wanted: DecisionSettings | None = None,
    *,
    epsilon: float | None = None,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    config: Path | None = None,
    progress: Progress | None = None,
) -> SiteSelection:
    """Does what `select_layers` does, but sets the threshold on the recordings of a folder, which need no labels.

    Nothing else was fitted on them, so their strangeness is that of new sound. A file is a group and counts with its
    strangest window: of files like these, the stated share has a window beyond the threshold.

    Args:
        cache: Folder of the cache.
        folder: Ordinary recordings of the place, at any depth.
        wanted: As for `select_layers`.
        epsilon: As for `select_layers`.
        flags: Settings of the network's run over those of the extract, by section and key.
        config: A settings file.
        progress: Told of steps and notes.

    Raises:
        NoInputError: No recording is found.
        UsageError: Too few files for the rate, files of the training or test split, or more layers asked for than
            there are. The earlier decision stays.
        ArtefactError: Calibrate has not run, its clips have changed since, or the network cannot be run.
        DamagedError: A file of the cache is not as it was written.
    """
    wanted, progress = wanted or DecisionSettings(), progress or Silent()
    with lock(cache):
        source = CalibratedCache.open(cache)
        view, known = source.view, source.statistics
        bundle.require_network(cache, view)
        paths = recordings_in(folder)
        _require_enough(folder, len(paths), len(paths), wanted.false_reject)
        # bounds were made from training clips, so that these are not strange; test clips are judged by the threshold
        known_clips = same_audio(paths, source.clips.used("train", "test"))
        if known_clips:
            path, clip = next(iter(known_clips.items()))
            raise UsageError(
                f"{shown(folder)}: {len(known_clips)} of {len(paths)} files are clips of the training or test split "
                f"(the first, {shown(path)}, {clip.split}); set the threshold on other recordings"
            )
        decision = make_decision(source, wanted, progress, epsilon=epsilon, with_threshold=False)
        classifier = GramClassifier.of(bundle.of_view(view, Rule.of(known, decision)), flags, config)
        strangest: list[float] = []
        failed: dict[str, str] = {}
        for one in judge_recordings(classifier, paths, progress):
            if one.windows:
                strangest.append(one.strangest)
            if one.error:
                failed[one.path] = one.error
        _require_enough(folder, len(strangest), len(paths), wanted.false_reject)
        limit = _on(folder, strangest, wanted.false_reject)
        decision = dataclasses.replace(decision, rule=dataclasses.replace(decision.rule, threshold=limit))
        decisions.save(cache, decision)
    return SiteSelection(decision, known, len(paths), failed)


def _on(folder: Path, strangest: list[float], false_reject: float) -> Threshold:
    found = threshold(np.array(strangest), np.arange(len(strangest)), false_reject)
    return dataclasses.replace(found, folder=str(folder))


def _require_enough(folder: Path, usable: int, there: int, false_reject: float) -> None:
    least = least_groups(false_reject)
    if usable < least:
        unusable = f" of which {there - usable} cannot be used," if usable < there else ""
        raise UsageError(
            f"{shown(folder)}: holds {there} files,{unusable} but a false-reject rate of {false_reject:g} takes "
            f"{least}; add recordings, or give a larger --false-reject"
        )
