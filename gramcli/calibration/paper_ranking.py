"""The paper's ranking: mean deviations of training clips from the classes that they do not belong to (Eq. 12)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

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


def negative_means(view: View, clips: list[Clip], known: Statistics, progress: Progress) -> npt.NDArray[Any]:
    """Returns the mean deviation of the other classes' training clips by layer and class, (L, C) float64.

    Args:
        view: Where their descriptors are.
        clips: The training clips that set the bounds.
        known: The bounds.
        progress: Told of clips as they are read.

    Raises:
        DamagedError: A file of the cache is not as it was written.
    """
    index = {label: n for n, label in enumerate(known.classes)}
    bounds = {layer: known.bounds(layer) for layer in known.layers}
    present = known.counts > 0
    plan = kernels.plan(sum(known.layers.values()) * len(clips) * len(index), cores())
    means = ExactMean((len(bounds), len(index)))
    progress.start("deviations of the negatives", len(clips))
    for group, rows, where in read_rows(view, clips, done=progress.advance):
        labels = label_indices(group, index)
        others = present & (labels[:, None] != np.arange(len(index)))
        scaled = (normalise(take_rows(rows.descriptors[layer], where), plan) for layer in bounds)
        far = [deviations(one, *bounds[layer], known.epsilon, plan) for one, layer in zip(scaled, bounds, strict=True)]
        means.add(np.stack(far, axis=1), np.broadcast_to(others[:, None], (len(group), *means.shape)))
    return means.mean()
