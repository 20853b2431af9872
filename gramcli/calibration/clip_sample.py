"""Descriptors of training and validation clips in memory, as many as a fit on whole vectors can take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache.labelled_rows import read_rows
from gramcli.cache.view import View
from gramcli.dataset.clip import Clip, sample_clips
from gramcli.progress import Progress

MOST = 2000
"""Clips at most: fits on whole vectors take memory and time by the square of their number and more."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class ClipSample:
    """Usable clips in the order of their keys."""

    clips: tuple[Clip, ...]
    descriptors: Mapping[str, Array]
    """ĝ by layer, (N, K_l)."""
    means: Mapping[str, Array]
    """Channel means by layer, (N, K_l); none where the view keeps none."""
    logits: Array
    """(N, O)."""

    @property
    def training(self) -> npt.NDArray[np.bool_]:
        """Which are training clips, (N,)."""
        return np.array([clip.split == "train" for clip in self.clips], bool)

    @classmethod
    def read(
        cls, view: View, clips: Sequence[Clip], layers: Sequence[str], progress: Progress, *, with_means: bool = False
    ) -> ClipSample:
        """Reads clips of a view; of more than `MOST` each class of each split gives its share.

        Args:
            view: Where they are.
            clips: In order of their keys, as `Clips.used` gives them.
            layers: To read.
            progress: Told of clips, and of what was left out.
            with_means: Whether to read channel means too.

        Raises:
            DamagedError: A file of the cache is not as it was written.
        """
        chosen = sample_clips(clips, MOST)
        if len(chosen) < len(clips):
            progress.note(f"what layers say together is learnt from {len(chosen)} of {len(clips)} clips")
        progress.start("reading clips", len(chosen))
        found: list[Clip] = []
        logits: list[Array] = []
        descriptors: dict[str, list[Array]] = {layer: [] for layer in layers}
        means: dict[str, list[Array]] = {layer: [] for layer in layers if with_means}
        for group, rows, where in read_rows(view, chosen, layers, progress.advance, with_means=with_means):
            found += group
            logits.append(rows.logits[where])
            for some, measured in ((descriptors, rows.descriptors), (means, rows.means)):
                for layer, parts in some.items():
                    parts.append(measured[layer][where])
        order = np.array(sorted(range(len(found)), key=lambda n: found[n].key), np.intp)
        return cls(
            tuple(found[n] for n in order),
            {layer: np.concatenate(parts)[order] for layer, parts in descriptors.items()},
            {layer: np.concatenate(parts)[order] for layer, parts in means.items()},
            np.concatenate(logits)[order],
        )
