"""The files of a calibrated cache that later stages read together: view, table of clips and statistics, each once."""

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
    """A cache whose statistics belong to its clips as they are labelled, split and grouped now."""

    folder: Path
    view: View
    """The clean view."""
    clips: ClipTable
    statistics: Statistics

    @classmethod
    def open(cls, folder: Path) -> CalibratedCache:
        """Reads the three and checks that they belong together.

        Raises:
            ArtefactError: Extract or calibrate has not run, or labels, splits or groups have changed since.
            DamagedError: A file is not as it was written.
        """
        view = View.open(folder)
        found, clips = statistics.load(folder, view.fingerprint), clip_table.require(folder)
        if clips.digest("train", "validation") != found.basis.clips:
            raise ArtefactError(f"{shown(found.file.path)}: the clips have changed since; run gramcli calibrate again")
        return cls(folder, view, clips, found)
