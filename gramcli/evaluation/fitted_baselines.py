"""Fit the rival classifiers on the training and validation clips of a cache, as the fused rule is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache.calibrated import CalibratedCache
from gramcli.cache.labelled_rows import label_indices
from gramcli.calibration.clip_sample import ClipSample
from gramcli.errors import NoInputError
from gramcli.evaluation import baselines
from gramcli.evaluation.baselines import Baseline, FittingClips
from gramcli.evaluation.spaces import Spaces
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.fitting.cross_fitting import deal_parts
from gramcli.fitting.features import PLAIN
from gramcli.inference.rule import Rule
from gramcli.progress import Progress
from gramcli.text import shown

ON_MEANS = {"means-lda": baselines.LDA, "means-probe": baselines.PROBE}
"""Rivals on channel means, in caches that keep them; they show what all layers give without correlations."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class FittedBaselines:
    """Fitted rivals, and the spaces of their features."""

    fitted: Mapping[str, Baseline]
    spaces: Spaces
    mean_spaces: Spaces | None

    @classmethod
    def fit(cls, source: CalibratedCache, rule: Rule, progress: Progress) -> FittedBaselines | None:
        """Fits every rival on training and validation clips, of all layers that the rule knows.

        Validation clips are dealt into the parts that the fused rule is cross-fitted on. There are no more clips than
        a `ClipSample` has.

        Args:
            source: View, clips and statistics.
            rule: Classes and layers.
            progress: Told of steps, and of what was not used.

        Returns:
            None where nothing can be cross-fitted.

        Raises:
            NoInputError: No usable training clip.
            ResourceError: scikit-learn is not installed.
        """
        view = source.view
        sample = ClipSample.read(
            view,
            source.clips.used("train", "validation"),
            rule.layers,
            progress,
            with_means=view.with_means,
        )
        clips, training = sample.clips, sample.training
        if not training.any():
            raise NoInputError(f"{shown(source.folder)}: no training clip can be used, so rivals cannot be fitted")
        labels = label_indices(clips, {label: n for n, label in enumerate(rule.classes)})
        part_of = np.full(len(clips), -1, np.intp)
        held = [clip for clip, seen in zip(clips, training, strict=True) if not seen]
        groups = np.unique([clip.group for clip in held], return_inverse=True)[1]
        try:
            part_of[~training] = deal_parts(groups, labels[~training])
        except ValueError as error:
            progress.note(f"rivals are left out: {error} in validation")
            return None
        log_p = log_softmax(sample.logits) if view.outputs else None
        spaces = Spaces.fit(sample.descriptors, training)
        mean_spaces = Spaces.fit(sample.means, training, (PLAIN, "log")) if sample.means else None
        names = [name for name in baselines.NAMES if log_p is not None or name not in baselines.NEEDS_NETWORK]
        progress.start("fitting rivals", len(names) + len(ON_MEANS) * (mean_spaces is not None))
        fitted = {}
        fitting = FittingClips(labels, part_of, len(rule.classes), log_p)
        for name in names:
            fitted[name] = baselines.fit(name, spaces.fitted, fitting)
            progress.advance(1)
        if mean_spaces is None:
            return cls(fitted, spaces, None)
        for name, kind in ON_MEANS.items():
            fitted[name] = baselines.fit(kind, mean_spaces.fitted, fitting)
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
        coordinates = self.spaces.of(descriptors)
        on_means = {} if self.mean_spaces is None else self.mean_spaces.of(means)
        return {
            name: rival.log_probabilities(on_means if name in ON_MEANS else coordinates, log_p)
            for name, rival in self.fitted.items()
        }
