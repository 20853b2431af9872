"""``gramcli select-layers --threshold-from``: sets the unknown-sound threshold on ordinary recordings of a site."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gramcli.cache import decision as decisions
from gramcli.cache.calibrated import CalibratedCache
from gramcli.cache.decision import Decision
from gramcli.cache.statistics import Statistics
from gramcli.calibration.select_layers import make_decision
from gramcli.errors import UsageError
from gramcli.extraction.reopen import require_network
from gramcli.inference import bundle
from gramcli.inference.classifier import GramClassifier
from gramcli.inference.recordings import judge_recordings, recordings_in, same_audio
from gramcli.inference.rule import Rule
from gramcli.rule.threshold import Threshold, least_groups, threshold
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import DecisionSettings
from gramcli.system.folder_lock import lock
from gramcli.text import shown


@dataclass(frozen=True)
class SiteSelection:
    """A decision with the threshold of a site."""

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
    context: RunContext | None = None,
) -> SiteSelection:
    """Does what `select_layers` does, but sets the threshold on the recordings of a folder, which need no labels.

    Nothing else is fitted on them, so their strangeness is that of new sounds. Each file counts with its strangest
    window: of files like these, the stated share has a window above the threshold.

    Args:
        cache: Folder of the cache.
        folder: Ordinary recordings of the site, also in its sub-folders.
        wanted: As for `select_layers`.
        epsilon: As for `select_layers`.
        context: Settings of how to run the network, and progress.

    Raises:
        NoInputError: No recording is found.
        UsageError: Too few files for the rate, files of the training or test split, or more layers asked for than
            there are. The earlier decision is kept.
        ArtefactError: Calibrate has not run, its clips have changed since, or the network cannot be run.
        DamagedError: A file of the cache is not as it was written.
    """
    wanted, context = wanted or DecisionSettings(), context or RunContext()
    with lock(cache):
        source = CalibratedCache.open(cache)
        view, known = source.view, source.statistics
        require_network(view)
        paths = recordings_in(folder)
        _require_enough(folder, len(paths), len(paths), wanted.false_reject)
        # training clips lie within their own bounds, and test clips are judged by the threshold
        known_clips = same_audio(paths, source.clips.used("train", "test"))
        if known_clips:
            path, clip = next(iter(known_clips.items()))
            raise UsageError(
                f"{shown(folder)}: {len(known_clips)} of {len(paths)} files are clips of the training or test split "
                f"(the first, {shown(path)}, {clip.split}); set the threshold on other recordings"
            )
        decision = make_decision(source, wanted, context.progress, epsilon=epsilon, with_threshold=False)
        classifier = GramClassifier.of(bundle.of_view(view, Rule.of(known, decision)), context)
        strangest: list[float] = []
        failed: dict[str, str] = {}
        for one in judge_recordings(classifier, paths):
            if one.windows:
                strangest.append(one.strangest)
            if one.error:
                failed[one.path] = one.error
        _require_enough(folder, len(strangest), len(paths), wanted.false_reject)
        limit = _threshold(folder, strangest, wanted.false_reject)
        decision = dataclasses.replace(decision, rule=dataclasses.replace(decision.rule, threshold=limit))
        decisions.save(cache, decision)
    return SiteSelection(decision, known, len(paths), failed)


def _threshold(folder: Path, strangest: list[float], false_reject: float) -> Threshold:
    found = threshold(np.array(strangest), np.arange(len(strangest)), false_reject)
    return dataclasses.replace(found, folder=str(folder))


def _require_enough(folder: Path, usable: int, files: int, false_reject: float) -> None:
    least = least_groups(false_reject)
    if usable < least:
        unusable = f" of which {files - usable} cannot be used," if usable < files else ""
        raise UsageError(
            f"{shown(folder)}: holds {files} files,{unusable} but a false-reject rate of {false_reject:g} needs at "
            f"least {least}; add recordings, or give a larger --false-reject"
        )
