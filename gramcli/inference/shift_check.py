"""``gramcli check``: compares the share of unknown windows in a folder of recordings with the threshold's stated rate.

A share well above the rate says that the statistics do not carry over to these recordings. No labels are needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gramcli.cache import clip_table
from gramcli.errors import ArtefactError
from gramcli.inference import bundle
from gramcli.inference.classifier import GramClassifier
from gramcli.inference.recordings import judge_recordings, recordings_in, same_audio
from gramcli.metrics.intervals import grouped_proportion
from gramcli.rule.threshold import Threshold, least_groups
from gramcli.settings.run_context import RunContext
from gramcli.text import shown

COLUMNS = ("folder", "clips", "windows", "unknown", "share", "low", "high", "false_reject", "failed", "finding")
"""Columns of a folder, in the order of every output format."""

STRANGER = "stranger"
PERHAPS = "perhaps stranger"
USUAL = "as usual"
TOO_FEW = "too few files"


@dataclass(frozen=True)
class FolderCheck:
    """Counts of one folder."""

    folder: str
    clips: int
    """Files of which at least one window could be judged."""
    windows: int
    unknown: int
    """Windows above the threshold."""
    share: float | None
    """Of the windows; None where there are none."""
    low: float | None
    """Lower end of the 95 % interval of the share; files are resampled, as windows of one file are alike."""
    high: float | None
    false_reject: float
    """Share of known recordings that the threshold was set to reject."""
    failed: int
    """Files of which at least one window could not be used."""
    finding: str
    """``stranger`` where the interval lies above the range of the threshold's own rate, ``perhaps stranger`` where it
    lies above the stated rate only, ``as usual`` where it does not, ``too few files`` where there are fewer files than
    a threshold of that rate needs."""

    def row(self) -> dict[str, Any]:
        """Returns the columns of the output table."""
        return {name: getattr(self, name) for name in COLUMNS}


@dataclass(frozen=True)
class ShiftCheck:
    """What `gramcli check` found."""

    threshold: Threshold
    files: int
    """All files of the folder."""
    folders: tuple[FolderCheck, ...]
    """The whole folder, then each sub-folder that holds recordings, without what is below it."""
    warnings: tuple[str, ...]
    """A sentence if the statistics do not carry over to the folder, and one if they do not to sub-folders."""
    verdict: str
    """One sentence where there is no warning, else empty."""
    failed: Mapping[str, str]
    """Why files could not be used, by path."""

    def about(self) -> dict[str, Any]:
        """Returns the fields of the JSON document beside its rows."""
        return {
            "threshold": asdict(self.threshold),
            "warnings": list(self.warnings),
            "verdict": self.verdict,
            "failed": dict(self.failed),
        }


def check_shift(
    path: Path,
    folder: Path,
    context: RunContext | None = None,
) -> ShiftCheck:
    """Counts the windows of a folder's recordings that are above the threshold for unknown sounds, folder by folder.

    Among sounds like those that the threshold was set on, no more than the stated share is unknown: the threshold is
    set on the strangest clip of every group, so single windows are rejected less often. A larger share means other
    sounds, or the same sounds under conditions that the statistics do not cover.

    Args:
        path: Folder of a cache, or the file that `gramcli export` wrote.
        folder: Recordings, also in its sub-folders.
        context: Settings of how to run, and progress.

    Raises:
        NoInputError: No recording is found.
        ArtefactError: No threshold is set, a stage has not run, or network and statistics do not fit.
        DamagedError: A file is not as it was written.
        ResourceError: The device is missing.
    """
    context = context or RunContext()
    model = bundle.load(path)
    limit = model.rule.threshold
    if limit is None:
        raise ArtefactError(
            f"{shown(path)}: no threshold for unknown sounds is set, as validation has too few groups; run gramcli "
            "select-layers with a larger --false-reject, or with --threshold-from a folder of ordinary recordings"
        )
    paths = recordings_in(folder)
    if path.is_dir():
        known = same_audio(paths, clip_table.require(path).used("train"))
        if known:
            context.progress.note(
                f"{len(known)} of {len(paths)} files are training clips, which are never unknown: they make the share "
                "too small"
            )
    classifier = GramClassifier.of(model, context)
    whole, parts = _Count(), dict[Path, _Count]()
    failed: dict[str, str] = {}
    for one in judge_recordings(classifier, paths):
        where = Path(one.path).parent
        counts = [whole] if where == folder else [whole, parts.setdefault(where, _Count())]
        for count in counts:
            count.add(one.windows, one.unknown, bool(one.error))
        if one.error:
            failed[one.path] = one.error
    folders = [whole.check(str(folder), limit), *(parts[where].check(str(where), limit) for where in sorted(parts))]
    return ShiftCheck(limit, len(paths), tuple(folders), *_sentences(folders, limit), failed)


@dataclass
class _Count:
    """Counts of windows, file by file."""

    windows: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    failed: int = 0

    def add(self, windows: int, unknown: int, failed: bool) -> None:
        self.failed += failed
        if windows:
            self.windows.append(windows)
            self.unknown.append(unknown)

    def check(self, folder: str, limit: Threshold) -> FolderCheck:
        windows, unknown = sum(self.windows), sum(self.unknown)
        share = low = high = None
        if windows:
            share = unknown / windows
            low, high = grouped_proportion(np.array(self.unknown), np.array(self.windows))
        return FolderCheck(
            folder,
            len(self.windows),
            windows,
            unknown,
            share,
            low,
            high,
            limit.false_reject,
            self.failed,
            _finding(len(self.windows), low, limit),
        )


def _finding(files: int, low: float | None, limit: Threshold) -> str:
    if low is not None and low > limit.false_reject:
        # the true rate of the threshold lies in a range of its own
        return STRANGER if low > limit.high else PERHAPS
    return TOO_FEW if files < least_groups(limit.false_reject) else USUAL


def _sentences(folders: Sequence[FolderCheck], limit: Threshold) -> tuple[tuple[str, ...], str]:
    """Returns warnings, or else a verdict."""
    whole, parts = folders[0], folders[1:]
    stated = f"the threshold {shown(limit.promise)}"
    found = f"{shown(whole.folder)}: no window could be judged"
    if whole.share is not None:
        found = (
            f"{shown(whole.folder)}: {whole.share:.1%} of {whole.windows} windows in {whole.clips} files are unknown "
            f"(95 % interval {whole.low:.1%} to {whole.high:.1%})"
        )
    warnings = []
    if whole.finding == STRANGER:
        warnings.append(
            f"{found}, but {stated}: the statistics do not carry over to these sounds, and labels and probabilities "
            "may not either; if the sounds are ordinary there, gramcli select-layers --threshold-from sets the "
            "threshold on them"
        )
    elif whole.finding == PERHAPS:
        warnings.append(
            f"{found}, but {stated}: the statistics may not carry over to these sounds, or the threshold rejects "
            f"more than stated, which its range allows; more {shown(limit.source)} would tell"
        )
    above = [part for part in parts if part.finding in (STRANGER, PERHAPS)]
    if above:
        first = ", ".join(f"{shown(part.folder)} {part.share:.1%}" for part in above[:3])
        more = f" and {len(above) - 3} more" if len(above) > 3 else ""
        warnings.append(
            f"{len(above)} of {len(parts)} sub-folders have more unknown windows than the stated "
            f"{100 * limit.false_reject:.3g}%: {first}{more}"
        )
    if warnings:
        return tuple(warnings), ""
    if whole.finding == TOO_FEW:
        least = least_groups(limit.false_reject)
        return (), f"{found}; {stated}: too few files to say whether the statistics carry over (at least {least})."
    return (), (
        f"{found}; {stated}: nothing indicates that the statistics do not carry over to these sounds; only "
        "labelled clips show how many labels are right."
    )
