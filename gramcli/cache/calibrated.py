"""A calibrated cache: its clean view, clip table and statistics, read once and checked against each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gramcli.cache import clip_table, statistics
from gramcli.cache.clip_table import ClipTable
from gramcli.cache.statistics import Statistics
from gramcli.cache.view import View
from gramcli.errors import ArtefactError
from gramcli.text import shown


@dataclass(frozen=True, eq=False)
class CalibratedCache:
    """A cache whose statistics were computed from its present clips, with their labels, splits and groups."""

    folder: Path
    view: View
    """The clean view."""
    clips: ClipTable
    statistics: Statistics

    @classmethod
    def open(cls, folder: Path) -> CalibratedCache:
        """Reads the files and checks that they belong together.

        Raises:
            ArtefactError: Extract or calibrate has not run, or labels, splits or groups have changed since.
            DamagedError: A file is damaged.
        """
        view = View.open(folder)
        stored, clips = statistics.load(folder, view.fingerprint), clip_table.require(folder)
        if clips.digest("train", "validation") != stored.basis.clips:
            raise ArtefactError(
                f"{shown(stored.file.path)}: labels, splits or groups of the clips have changed since; run gramcli "
                "calibrate again"
            )
        return cls(folder, view, clips, stored)
