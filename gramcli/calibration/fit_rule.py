"""Fitting the rule: everything that is learnt from validation clips once the layers are ranked, cross-fitted by group.

Bounds are from training clips alone, so no validation clip was used before. What is fitted on validation clips is first
fitted on four parts of five and scores the fifth. Sharpness and threshold are set on these scores. Then everything is
fitted again on all clips.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache.decision import LayerRanking
from gramcli.cache.fitted_rule import FittedRule
from gramcli.cache.labelled_rows import take_rows
from gramcli.calibration.clip_sample import ClipSample
from gramcli.calibration.validation_set import ValidationSet
from gramcli.fitting import conditional_logit
from gramcli.fitting.cross_fitting import cross_fit
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
    """A rule, and how often it was right on clips that its weights had not seen."""

    rule: FittedRule
    held_out: float | None
    """Share of validation clips; None where nothing could be cross-fitted. See `Decision.held_out`."""


def unfitted_rule(ranking: LayerRanking, expected: Array) -> FittedRule:
    """Returns the rule gram with nothing fitted: the smallest Δ̄ wins, without probabilities or a threshold.

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
    """Fits the rule that the settings name, without a threshold; see `fit_threshold`.

    Args:
        validation: Validation clips and their deviations.
        ranking: Layers that can be used. The rule fused weighs them all; Δ̄ is over the first k.
        wanted: Rule, ranking and k.
        sample: Training and validation clips with descriptors for the discriminant; None with the rule gram.
        progress: Told of what could not be fitted.
    """
    correction = validation.correction_from(validation.everyone)
    if correction is not None and (correction.scale == 1).all() and (correction.shift == 0).all():
        progress.note("no validation clips of the larger classes: the rule cannot be corrected for unequal class sizes")
    rule = replace(unfitted_rule(ranking, validation.expected), size_correction=correction)
    used = _Used.of(validation, progress)
    if wanted.rule == "gram":
        return _fit_gram(used, rule, wanted)
    return _fit_fused(used, rule, sample, progress)


def fit_threshold(validation: ValidationSet, false_reject: float, progress: Progress) -> Threshold | None:
    """Sets the threshold of unknown sounds on validation clips; None, with a note, where there are too few groups."""
    try:
        return threshold(validation.strangeness(), validation.groups, false_reject)
    except ValueError as error:
        progress.note(f"no threshold for unknown sounds: {error} in validation")
        return None


@dataclass(frozen=True, eq=False)
class _Used:
    """The first n validation clips, as many as the rule can be fitted on in memory."""

    validation: ValidationSet
    deviations: Array
    """(n, L, C)."""
    labels: npt.NDArray[np.intp]
    part_of: npt.NDArray[np.intp]
    log_p: Array | None

    @classmethod
    def of(cls, validation: ValidationSet, progress: Progress) -> _Used:
        there = len(validation.labels)
        count = min(validation.most, there)
        if count < there:
            progress.note(
                f"the rule is fitted on {count} of {there} validation clips, since each is compared with "
                f"{len(validation.columns)} classes at {len(validation.layers)} layers"
            )
        log_p = None if validation.log_p is None else validation.log_p[:count]
        return cls(
            validation, validation.deviations(0, count), validation.labels[:count], validation.part_of[:count], log_p
        )

    def evidence_from(self, clips: Mask) -> Array:
        """Returns z of all these clips, with E_l and size correction learnt from some of them, (n, L, C).

        What all of these clips show is taken from the whole validation set, as the fitted rule does.
        """
        learnt_from = self.validation.everyone if clips.all() else clips
        return self.validation.evidence_from(learnt_from, self.deviations)


def _fit_gram(used: _Used, rule: FittedRule, wanted: DecisionSettings) -> FitResult:
    """Fits how sharp the probabilities of the smallest Δ̄ are; layers are chosen anew without each part."""

    def scores(seen: Mask, held: Mask) -> Array:
        expected = used.validation.expected_from(seen)
        first = _choose_layers(used, seen, expected, wanted)
        return np.log1p(total(used.deviations[held][:, first], expected[first]))

    far = cross_fit(used.part_of, scores)
    (sharpness,) = conditional_logit.fit(-far[..., None], used.labels, ridge=1e-3)
    return FitResult(replace(rule, sharpness=float(sharpness)), accuracy(far.argmin(axis=1), used.labels))


def _choose_layers(used: _Used, seen: Mask, expected: Array, wanted: DecisionSettings) -> list[int]:
    """Returns which layers, as places in the ranking, make up Δ̄ where only the clips of a mask are known."""
    deviations, labels = used.deviations[seen], used.labels[seen]
    order = list(range(len(expected)))
    if wanted.ranking != "paper":  # the paper's scores are those of training clips, so its order stands
        scores = [
            layer_score((deviations[:, n] / expected[n]).astype(np.float32), labels, wanted.ranking) for n in order
        ]
        order = [n for n in sorted(order, key=lambda n: -scores[n]) if np.isfinite(scores[n])] or order
    present = np.ones(deviations.shape[2], bool)
    log_p = None if used.log_p is None else used.log_p[seen]
    found = curve((deviations[:, n] for n in order), expected[order], present, log_p, labels)
    return order[: how_many(wanted.top_k, found)]


def _fit_fused(used: _Used, rule: FittedRule, sample: ClipSample | None, progress: Progress) -> FitResult:
    """Fits a weight for each layer, the discriminant of all layers, and the shares of discriminant and network."""
    joint, log_q = _fit_discriminant(used, sample, progress)
    found = fusion.choose(
        used.evidence_from,
        used.labels,
        used.part_of,
        uneven=rule.size_correction is not None,
        log_q=log_q,
        log_p=used.log_p,
    )
    known = np.isfinite(found.held_out).all(axis=1)
    held_out = accuracy(found.held_out[known].argmax(axis=1), used.labels[known])
    return FitResult(replace(rule, name="fused", fusion=found.fusion, discriminant=joint), held_out)


def _fit_discriminant(
    used: _Used, sample: ClipSample | None, progress: Progress
) -> tuple[Discriminant | None, Array | None]:
    """Fits the discriminant on a sample of training and validation clips.

    Returns:
        The discriminant, and log q of each clip from a fit without the clip's part, (n, C); NaN where the clip is not
        in the sample. None and None where nothing could be fitted.
    """
    if sample is None:
        return None, None
    validation = used.validation
    keys = [bytes(key).hex() for key in validation.statistics.validation.keys[validation.rows]]
    place = {key: n for n, key in enumerate(keys)}
    index = {validation.statistics.classes[c]: n for n, c in enumerate(validation.columns)}
    chosen = np.flatnonzero([
        clip.label in index and (trained or clip.key in place)
        for clip, trained in zip(sample.clips, sample.training, strict=True)
    ])  # fmt: skip
    clips = [sample.clips[n] for n in chosen]
    places = np.array([place.get(clip.key, -1) for clip in clips], np.intp)
    part = np.where(sample.training[chosen], -1, validation.part_of[places])
    progress.start("fitting the discriminant", len(np.unique(part)))
    try:
        learnt = discriminant.learn(
            {layer: take_rows(values, chosen) for layer, values in sample.descriptors.items()},
            np.array([index[clip.label] for clip in clips], np.intp),
            part,
            len(index),
            lambda: progress.advance(1),
        )
    except ValueError as error:
        progress.note(f"no discriminant over all layers: {error}")
        return None, None
    log_q = np.full((len(keys), len(index)), np.nan)
    log_q[places[part >= 0]] = learnt.held_out
    return learnt.discriminant, log_q[: len(used.labels)]
