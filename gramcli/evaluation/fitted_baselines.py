"""All baselines of a cache, fitted on the same training and validation clips as the rule ``fused``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache.calibrated import CalibratedCache
from gramcli.cache.labelled_rows import label_indices
from gramcli.calibration.clip_sample import MAX_CLIPS, ClipSample
from gramcli.calibration.size_limits import require_rivals
from gramcli.dataset.clip import sample_clips
from gramcli.errors import NoInputError
from gramcli.evaluation import baselines
from gramcli.evaluation.baselines import Baseline
from gramcli.evaluation.spaces import Spaces
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.fitting.cross_fitting import LabelledClips, deal_parts
from gramcli.fitting.features import LOG, PLAIN
from gramcli.inference.rule import Rule
from gramcli.progress import Progress
from gramcli.text import shown

ON_MEANS = {"means-lda": baselines.LDA, "means-probe": baselines.PROBE}
"""Baselines on channel means, for caches that have them. They show the gain of more layers without correlations."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class FittedBaselines:
    """Fitted baselines by name, and their feature spaces."""

    fitted: Mapping[str, Baseline]
    spaces: Spaces
    """Spaces of descriptors."""
    mean_spaces: Spaces | None
    """Spaces of channel means; None if the cache has none."""

    @classmethod
    def fit(cls, source: CalibratedCache, rule: Rule, progress: Progress) -> FittedBaselines | None:
        """Fits all baselines on training and validation clips, with all layers of the rule.

        They are cross-fitted with the same parts of the validation clips as the rule fused. At most the clips of a
        `ClipSample` are used.

        Args:
            source: View, clips and statistics.
            rule: Rule with classes and layers.
            progress: Receives steps, and notes about clips that are not used.

        Returns:
            The baselines; None if nothing can be cross-fitted.

        Raises:
            NoInputError: There is no usable training clip.
            ResourceError: scikit-learn is not installed, or there are too many classes and clips.
        """
        view, used = source.view, source.clips.used("train", "validation")
        require_rivals(len(sample_clips(used, MAX_CLIPS)), len(rule.classes))
        sample = ClipSample.read(
            view,
            used,
            rule.layers,
            progress,
            with_means=view.with_means,
        )
        clips, training = sample.clips, sample.training
        if not training.any():
            raise NoInputError(f"{shown(source.folder)}: no training clip can be used, so rivals cannot be fitted")
        labels = label_indices(clips, {label: n for n, label in enumerate(rule.classes)})
        part_of = np.full(len(clips), -1, np.intp)
        validation = [clip for clip, in_training in zip(clips, training, strict=True) if not in_training]
        groups = np.unique([clip.group for clip in validation], return_inverse=True)[1]
        try:
            part_of[~training] = deal_parts(groups, labels[~training])
        except ValueError as error:
            progress.note(f"rivals are left out: {error} in validation")
            return None
        log_p = log_softmax(sample.logits) if view.outputs else None
        spaces = Spaces.fit(sample.descriptors, training)
        mean_spaces = Spaces.fit(sample.means, training, (PLAIN, LOG)) if sample.means else None
        names = [name for name in baselines.NAMES if log_p is not None or name not in baselines.NEEDS_NETWORK]
        progress.start("fitting rivals", len(names) + len(ON_MEANS) * (mean_spaces is not None))
        labelled = LabelledClips(labels, part_of, len(rule.classes))
        fitted = {}
        for name in names:
            fitted[name] = baselines.fit(name, spaces.fitted, labelled, log_p)
            progress.advance(1)
        if mean_spaces is None:
            return cls(fitted, spaces, None)
        for name, kind in ON_MEANS.items():
            fitted[name] = baselines.fit(kind, mean_spaces.fitted, labelled)
            progress.advance(1)
        return cls(fitted, spaces, mean_spaces)

    def log_probabilities(
        self, descriptors: Mapping[str, Array], means: Mapping[str, Array], logits: Array | None
    ) -> dict[str, npt.NDArray[np.float64]]:
        """Returns the log-probabilities of new clips from each baseline, by its name.

        Shape:
            - descriptors, means: ĝ and channel means by layer, (N, K_l) each
            - logits: (N, C)
            - returns: (N, C) each
        """
        log_p = None if logits is None else log_softmax(logits)
        coordinates = self.spaces.of(descriptors)
        on_means = {} if self.mean_spaces is None else self.mean_spaces.of(means)
        return {
            name: baseline.log_probabilities(on_means if name in ON_MEANS else coordinates, log_p)
            for name, baseline in self.fitted.items()
        }
