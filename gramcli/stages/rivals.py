"""Rivals of the decision, fitted on the training and validation clips of a cache as the fused rule is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache import clips as table
from gramcli.cache.clips import Clip
from gramcli.cache.view import View
from gramcli.decide import rivals
from gramcli.decide.crossfit import parts
from gramcli.decide.likelihood import log_softmax
from gramcli.decide.rivals import Rival
from gramcli.decide.space import PLAIN, Spaces
from gramcli.errors import NoInputError, shown
from gramcli.stages.progress import Progress
from gramcli.stages.rows import label_indices, read_rows
from gramcli.stages.rule import Rule

MOST = 4000
"""Clips that rivals are fitted on at most: their spaces take memory and time by the square of it."""
MEANS_PROBE = "means-probe"
"""A probe on channel means, in caches that keep them: what more layers give without correlations."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Rivals:
    """Fitted rivals and the spaces they are at home in."""

    fitted: Mapping[str, Rival]
    spaces: Spaces
    mean_spaces: Spaces | None

    @classmethod
    def fit(cls, cache: Path, view: View, rule: Rule, progress: Progress) -> Rivals | None:
        """Fits every rival on training and validation clips, of all layers that the rule knows.

        Validation clips are dealt into the parts that the fused rule is cross-fitted on. Of more than `MOST` clips
        each class gives its share, the first by their keys, which are digests and so as good as drawn.

        Args:
            cache: Folder of the cache.
            view: Its clean view.
            rule: Classes and layers.
            progress: Told of steps, and of what was not used.

        Returns:
            None where nothing can be cross-fitted.

        Raises:
            NoInputError: No usable training clip.
            ResourceError: scikit-learn is not installed.
        """
        chosen = _sample(table.require(cache).used("train", "validation"), progress)
        progress.start("reading clips for rivals", len(chosen))
        found: list[Clip] = []
        gathered: dict[str, list[dict[str, Array]]] = {"descriptors": [], "means": []}
        logits: list[Array] = []
        for group, rows, where in read_rows(view, chosen, rule.layers, progress.advance, with_means=view.with_means):
            found += group
            for name, some in gathered.items():
                some.append({layer: values[where] for layer, values in getattr(rows, name).items()})
            logits.append(rows.logits[where])
        order = np.array(sorted(range(len(found)), key=lambda n: found[n].key), np.intp)
        clips = [found[n] for n in order]
        training = np.array([clip.split == "train" for clip in clips], bool)
        if not training.any():
            raise NoInputError(f"{shown(cache)}: no usable training clips to fit rivals on")
        labels = label_indices(clips, {label: n for n, label in enumerate(rule.classes)})
        part_of = np.full(len(clips), -1, np.intp)
        held = [clip for clip, seen in zip(clips, training, strict=True) if not seen]
        groups = np.unique([clip.group for clip in held], return_inverse=True)[1]
        try:
            part_of[~training] = parts(groups, labels[~training])
        except ValueError as error:
            progress.note(f"no rivals: {error} in validation")
            return None
        log_p = log_softmax(np.concatenate(logits)[order]) if view.outputs else None
        descriptors, means = (_columns(gathered[name], order) for name in ("descriptors", "means"))
        spaces = Spaces.fit(descriptors, training)
        mean_spaces = Spaces.fit(means, training, (PLAIN, "log")) if means else None
        names = [name for name in rivals.NAMES if log_p is not None or name not in rivals.NEEDS_NETWORK]
        progress.start("fitting rivals", len(names) + (mean_spaces is not None))
        fitted = {}
        for name in names:
            fitted[name] = rivals.fit(name, spaces.fitted, labels, part_of, len(rule.classes), log_p)
            progress.advance(1)
        if mean_spaces is not None:
            fitted[MEANS_PROBE] = rivals.fit(rivals.PROBE, mean_spaces.fitted, labels, part_of, len(rule.classes))
            progress.advance(1)
        return cls(fitted, spaces, mean_spaces)

    def log_probabilities(
        self, descriptors: Mapping[str, Array], means: Mapping[str, Array], logits: Array | None
    ) -> dict[str, npt.NDArray[np.float64]]:
        """Returns the log-probabilities that each rival gives new clips, (N, C), by its name.

        Shape:
            - descriptors, means: ĝ and channel means by layer, (N, K_l) each
            - logits: (N, C)
        """
        log_p = None if logits is None else log_softmax(logits)
        places = self.spaces.of(descriptors)
        mean_places = None if self.mean_spaces is None else self.mean_spaces.of(means)
        return {
            name: rival.log_probabilities(
                mean_places if name == MEANS_PROBE and mean_places is not None else places, log_p
            )
            for name, rival in self.fitted.items()
        }


def _sample(clips: Sequence[Clip], progress: Progress) -> list[Clip]:
    if len(clips) <= MOST:
        return list(clips)
    sizes = Counter((clip.split, clip.label) for clip in clips)
    left = {which: math.ceil(MOST / len(clips) * size) for which, size in sizes.items()}
    chosen = []
    for clip in clips:
        if left[clip.split, clip.label] > 0:
            left[clip.split, clip.label] -= 1
            chosen.append(clip)
    progress.note(f"rivals are fitted on {len(chosen)} of {len(clips)} training and validation clips")
    return chosen


def _columns(parts: Sequence[Mapping[str, Array]], order: npt.NDArray[np.intp]) -> dict[str, Array]:
    return {layer: np.concatenate([part[layer] for part in parts])[order] for layer in parts[0]}
