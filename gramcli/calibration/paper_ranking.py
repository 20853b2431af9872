"""The input of the paper's ranking (Eq. 12): mean deviations of training clips from the other classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.blocks import blocks
from gramcli.cache.labelled_rows import label_indices, read_rows, take_rows
from gramcli.cache.statistics import Statistics
from gramcli.cache.view import View
from gramcli.dataset.clip import Clip
from gramcli.gram import kernels
from gramcli.gram.descriptor import normalise
from gramcli.gram.deviation import deviations
from gramcli.gram.exact_mean import ExactMean
from gramcli.progress import Progress
from gramcli.system.cpu import cores

_BLOCK = 1 << 22
"""Deviations that are added at a time; an exact sum takes about 60 bytes for each."""


def negative_means(view: View, clips: list[Clip], statistics: Statistics, progress: Progress) -> npt.NDArray[Any]:
    """Returns the mean deviation from each class over the training clips of all other classes, the negatives.

    Args:
        view: View that holds their descriptors.
        clips: The training clips that set the bounds.
        statistics: Statistics with the bounds.
        progress: Receives clips as they are read.

    Raises:
        DamagedError: A file of the cache is damaged.

    Shape:
        - returns: (L, C) float64
    """
    index = {label: n for n, label in enumerate(statistics.classes)}
    bounds = {layer: statistics.bounds(layer) for layer in statistics.layers}
    present = statistics.counts > 0
    plan = kernels.plan(sum(statistics.layers.values()) * len(clips) * len(index), cores())
    means = ExactMean((len(bounds), len(index)))
    progress.start("deviations of the negatives", len(clips))
    for group, rows, where in read_rows(view, clips, done=progress.advance):
        labels = label_indices(group, index)
        scaled = {layer: normalise(take_rows(rows.descriptors[layer], where), plan) for layer in bounds}
        for some in blocks(len(group), means.counts.size, _BLOCK):
            others = present & (labels[some, None] != np.arange(len(index)))
            by_layer = [deviations(scaled[layer][some], *bounds[layer], statistics.epsilon, plan) for layer in bounds]
            means.add(np.stack(by_layer, axis=1), np.broadcast_to(others[:, None], (len(others), *means.shape)))
    return means.mean()
