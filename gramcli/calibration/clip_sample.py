"""A sample of training and validation clips in memory, small enough for fits on the vectors of all layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache.labelled_rows import read_rows, take_rows
from gramcli.cache.view import View
from gramcli.dataset.clip import Clip, sample_clips
from gramcli.progress import Progress

MAX_CLIPS = 2000
"""Largest number of clips. Memory and time of a fit on the vectors of all layers grow at least with its square."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class ClipSample:
    """Descriptors of usable clips, in the order of their keys."""

    clips: tuple[Clip, ...]
    descriptors: Mapping[str, Array]
    """ĝ by layer, (N, K_l)."""
    means: Mapping[str, Array]
    """Channel means by layer, (N, K_l); empty if they were not read."""
    logits: Array
    """Outputs of the network, (N, O)."""

    @property
    def training(self) -> npt.NDArray[np.bool_]:
        """Which clips are training clips, (N,)."""
        return np.array([clip.split == "train" for clip in self.clips], bool)

    @classmethod
    def read(
        cls, view: View, clips: Sequence[Clip], layers: Sequence[str], progress: Progress, *, with_means: bool = False
    ) -> ClipSample:
        """Reads clips of a view. If there are more than `MAX_CLIPS`, `sample_clips` takes some of them.

        Args:
            view: View that holds the clips.
            clips: In the order of their keys, as `ClipTable.used` returns them.
            layers: Layers to read.
            progress: Receives clips as they are read, and a note if clips are left out.
            with_means: Whether to read channel means as well.

        Raises:
            DamagedError: A file of the cache is damaged.
        """
        chosen = sample_clips(clips, MAX_CLIPS)
        if len(chosen) < len(clips):
            progress.note(f"fits over all layers use {len(chosen)} of {len(clips)} training and validation clips")
        progress.start("reading clips", len(chosen))
        position = {clip.key: n for n, clip in enumerate(chosen)}
        usable = np.zeros(len(chosen), bool)
        logits: Array = np.empty((len(chosen), 0), np.float32)
        descriptors = {layer: np.empty((len(chosen), view.layers[layer]), np.float32) for layer in layers}
        means = {layer: np.empty_like(values) for layer, values in descriptors.items() if with_means}
        for group, rows, where in read_rows(view, chosen, layers, progress.advance, with_means=with_means):
            targets = [position[clip.key] for clip in group]
            usable[targets] = True
            if not logits.shape[1]:  # there may be outputs that are not the classes
                logits = np.empty((len(chosen), rows.logits.shape[1]), np.float32)
            for values, stored in (
                (logits, rows.logits),
                *((descriptors[layer], rows.descriptors[layer]) for layer in layers),
                *((means[layer], rows.means[layer]) for layer in means),
            ):
                values[targets] = stored[where]
        kept = np.flatnonzero(usable)
        return cls(
            tuple(chosen[n] for n in kept),
            {layer: take_rows(values, kept) for layer, values in descriptors.items()},
            {layer: take_rows(values, kept) for layer, values in means.items()},
            take_rows(logits, kept),
        )
