"""Fits the rule on validation clips, with cross-fitting by group, once the layers are ranked.

The bounds are from training clips alone, so no validation clip was used for them. The rule is first fitted on four of
five parts of the validation clips, and scores the fifth part. Temperature and threshold are set on these held-out
scores. Then the rule is fitted again on all validation clips.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache.decision import LayerRanking
from gramcli.cache.fitted_rule import FittedRule
from gramcli.cache.labelled_rows import take_rows
from gramcli.calibration.clip_sample import ClipSample
from gramcli.calibration.size_limits import MAX_HELD_OUT
from gramcli.calibration.validation_set import ValidationSet
from gramcli.fitting import conditional_logit
from gramcli.fitting.cross_fitting import LabelledClips, cross_fit
from gramcli.gram.ranking import curve, how_many, layer_score
from gramcli.gram.total import total
from gramcli.metrics.classification import accuracy
from gramcli.progress import Progress
from gramcli.rule import discriminant, fusion
from gramcli.rule.discriminant import Discriminant
from gramcli.rule.threshold import Threshold, threshold
from gramcli.settings.schema import DecisionSettings

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class FitResult:
    """A fitted rule, and its accuracy on held-out clips."""

    rule: FittedRule
    held_out: float | None
    """Accuracy on held-out validation clips; None if nothing could be cross-fitted. See `Decision.held_out`."""


def unfitted_rule(ranking: LayerRanking, expected: Array) -> FittedRule:
    """Returns the rule gram without probabilities and threshold: the class of smallest Δ̄ wins.

    Shape:
        - expected: E_l in ranked order, (L,)
    """
    return FittedRule("gram", ranking.layers, ranking.chosen, expected)


def fit_rule(
    validation: ValidationSet,
    ranking: LayerRanking,
    wanted: DecisionSettings,
    sample: ClipSample | None,
    progress: Progress,
) -> FitResult:
    """Fits the rule that the settings name, except for its threshold; see `fit_threshold`.

    Args:
        validation: Validation clips and their deviations.
        ranking: Layers that can be used. The rule fused uses all of them, Δ̄ the first k.
        wanted: Rule, ranking and k.
        sample: Training and validation clips with descriptors, for the discriminant; None with the rule gram.
        progress: Receives notes about what could not be fitted.
    """
    correction = validation.correction_from(validation.all_clips)
    if correction is not None and (correction.scale == 1).all() and (correction.shift == 0).all():
        progress.note("no validation clips of the larger classes: the rule cannot be corrected for unequal class sizes")
    rule = replace(unfitted_rule(ranking, validation.expected), size_correction=correction)
    used = _FitClips.of(validation, progress)
    if wanted.rule == "gram":
        return _fit_gram(used, rule, wanted)
    return _fit_fused(used, rule, sample, progress)


def fit_threshold(validation: ValidationSet, false_reject: float, progress: Progress) -> Threshold | None:
    """Sets the threshold of unknown sounds on validation clips; None, with a note, if there are too few groups."""
    try:
        return threshold(validation.strangeness(), validation.groups, false_reject)
    except ValueError as error:
        progress.note(f"no threshold for unknown sounds: {error} in validation")
        return None


@dataclass(frozen=True, eq=False)
class _FitClips:
    """The first n validation clips: as many as fit into memory for fitting the rule."""

    validation: ValidationSet
    labels: npt.NDArray[np.intp]
    part_of: npt.NDArray[np.intp]
    log_p: Array | None

    @classmethod
    def of(cls, validation: ValidationSet, progress: Progress) -> _FitClips:
        total_count = len(validation.labels)
        count = min(validation.most, total_count)
        if count < total_count:
            progress.note(
                f"the rule is fitted on {count} of {total_count} validation clips, as more do not fit into memory with "
                f"{len(validation.columns)} classes and {len(validation.layers)} layers"
            )
        return cls(
            validation,
            validation.labels[:count],
            validation.part_of[:count],
            validation.log_p(count),
        )

    @cached_property
    def deviations(self) -> Array:
        """(n, L, C). They are read when they are needed first, after the discriminant, which needs memory as well."""
        return self.validation.deviations(0, len(self.labels))

    def evidence_from(self, clips: Mask, rows: npt.NDArray[np.intp]) -> Array:
        """Returns z of some of the n clips, with E_l and size correction from the clips of a mask, (N', L, C).

        If the mask has all n clips, the whole validation set is used, as for the final rule.
        """
        mask = self.validation.all_clips if clips.all() else clips
        return self.validation.evidence_from(mask, self.deviations[rows])


def _fit_gram(used: _FitClips, rule: FittedRule, wanted: DecisionSettings) -> FitResult:
    """Fits the inverse temperature of the rule gram. For each part, the layers are chosen without it."""

    def scores(fitted: Mask, held: Mask) -> Array:
        expected = used.validation.expected_from(fitted)
        chosen = _choose_layers(used, fitted, expected, wanted)
        return np.log1p(total(used.deviations[held][:, chosen], expected[chosen]))

    held_out = cross_fit(used.part_of, scores)
    (factor,) = conditional_logit.fit(-held_out[..., None], used.labels, ridge=1e-3)
    fitted_rule = replace(rule, inverse_temperature=float(factor))
    return FitResult(fitted_rule, accuracy(held_out.argmin(axis=1), used.labels))


def _choose_layers(used: _FitClips, fitted: Mask, expected: Array, wanted: DecisionSettings) -> list[int]:
    """Ranks the layers on the clips of a mask. Returns the indices of those that make up Δ̄."""
    deviations, labels = used.deviations[fitted], used.labels[fitted]
    order = list(range(len(expected)))
    if wanted.ranking != "paper":  # the paper's scores are from training clips, so the order stays
        scores = [
            layer_score((deviations[:, n] / expected[n]).astype(np.float32), labels, wanted.ranking) for n in order
        ]
        order = [n for n in sorted(order, key=lambda n: -scores[n]) if np.isfinite(scores[n])] or order
    present = np.ones(deviations.shape[2], bool)
    log_p = None if used.log_p is None else used.log_p[fitted]
    accuracies = curve((deviations[:, n] for n in order), expected[order], present, log_p, labels)
    return order[: how_many(wanted.top_k, accuracies)]


def _fit_fused(used: _FitClips, rule: FittedRule, sample: ClipSample | None, progress: Progress) -> FitResult:
    """Fits a weight for each layer, the discriminant over all layers, and the weights of discriminant and network."""
    over_all_layers, log_q = _fit_discriminant(used, sample, progress)
    fitted = fusion.choose(
        used.evidence_from,
        LabelledClips(used.labels, used.part_of, len(used.validation.columns)),
        uneven=rule.size_correction is not None,
        log_q=log_q,
        log_p=used.log_p,
    )
    scored = np.isfinite(fitted.held_out).all(axis=1)
    held_out = accuracy(fitted.held_out[scored].argmax(axis=1), used.labels[scored])
    return FitResult(replace(rule, name="fused", fusion=fitted.fusion, discriminant=over_all_layers), held_out)


def _fit_discriminant(
    used: _FitClips, sample: ClipSample | None, progress: Progress
) -> tuple[Discriminant | None, Array | None]:
    """Fits the discriminant on a sample of training and validation clips.

    Returns:
        The discriminant, and log q of each clip from a fit without its part, (n, C). log q is NaN for clips that are
        not in the sample. None and None if no discriminant could be fitted.
    """
    if sample is None:
        return None, None
    validation = used.validation
    keys = [bytes(key).hex() for key in validation.statistics.validation.keys[validation.rows]]
    row_of = {key: n for n, key in enumerate(keys)}
    index = {validation.statistics.classes[c]: n for n, c in enumerate(validation.columns)}
    held_out = np.array([clip.key in row_of for clip in sample.clips])[~sample.training].sum()
    # all scores of held-out clips are in memory at once; with too many classes only those that the rule is fitted on
    last = len(keys) if held_out * len(index) <= MAX_HELD_OUT else len(used.labels)
    chosen = np.flatnonzero([
        clip.label in index and (trained or row_of.get(clip.key, last) < last)
        for clip, trained in zip(sample.clips, sample.training, strict=True)
    ])  # fmt: skip
    clips = [sample.clips[n] for n in chosen]
    rows = np.array([row_of.get(clip.key, -1) for clip in clips], np.intp)
    part_of = np.where(sample.training[chosen], -1, validation.part_of[rows])
    if (used_count := int((part_of >= 0).sum())) < held_out and last < len(keys):
        progress.note(
            f"the discriminant is cross-fitted on {used_count} of {held_out} validation clips, as more scores of "
            f"{len(index)} classes do not fit into memory"
        )
    labels = np.array([index[clip.label] for clip in clips], np.intp)
    progress.start("fitting the discriminant", len(np.unique(part_of)))
    try:
        fitted = discriminant.fit(
            {layer: take_rows(values, chosen) for layer, values in sample.descriptors.items()},
            LabelledClips(labels, part_of, len(index)),
            lambda: progress.advance(1),
        )
    except ValueError as error:
        progress.note(f"no discriminant over all layers: {error}")
        return None, None
    log_q = np.full((len(used.labels), len(index)), np.nan)
    rows = rows[part_of >= 0]
    log_q[rows[rows < len(log_q)]] = fitted.held_out[rows < len(log_q)]
    return fitted.discriminant, log_q
