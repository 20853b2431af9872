"""What is fitted on validation clips once the layers are ranked, all of it cross-fitted by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache.labelled_rows import take_rows
from gramcli.cache.statistics import Statistics
from gramcli.calibration.clip_sample import ClipSample
from gramcli.calibration.validation_set import ValidationSet
from gramcli.fitting import conditional_logit
from gramcli.fitting.cross_fitting import cross_fit
from gramcli.gram.ranking import curve, how_many, layer_score
from gramcli.gram.total import total
from gramcli.metrics.classification import accuracy
from gramcli.progress import Progress
from gramcli.rule import discriminant, fusion
from gramcli.rule.class_size import SizeCorrection
from gramcli.rule.discriminant import Discriminant
from gramcli.rule.fusion import Fusion
from gramcli.rule.threshold import Threshold, threshold
from gramcli.settings.schema import DecisionSettings

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Fused:
    """What validation clips gave."""

    fusion: Fusion | None
    sharpness: float | None
    threshold: Threshold | None
    held_out: float | None
    levelling: SizeCorrection | None = None
    discriminant: Discriminant | None = None


def fit_rule(
    known: Statistics,
    order: tuple[str, ...],
    wanted: DecisionSettings,
    sample: ClipSample | None,
    progress: Progress,
    *,
    limited: bool = True,
) -> Fused:
    """Fits the rule, its probabilities and the threshold of the unknown.

    Bounds are from training clips alone, so validation clips are strange to all of it until here. Everything that is
    fitted on them is fitted on four parts of five first and scores the fifth; sharpness and threshold are set on
    these scores; then all is fitted again on all clips.

    Args:
        known: Statistics.
        order: Layers that can be used, best first. The fused rule weighs them all; Δ̄ is over the first k.
        wanted: Rule, ranking, k and false-reject rate.
        sample: Training and validation clips with the descriptors of these layers; None with the rule gram.
        progress: Told what could not be fitted.
        limited: Whether these clips set the threshold; none is set if not.
    """
    try:
        clips = ValidationSet.read(known, order)
    except ValueError:
        progress.note("validation has fewer than two groups: nothing can be cross-fitted, and the rule is gram")
        return Fused(None, None, None, None)
    heard = min(clips.most, len(clips.labels))
    if heard < len(clips.labels):
        progress.note(
            f"the rule is fitted on {heard} of {len(clips.labels)} validation clips: "
            f"each is compared with {len(clips.columns)} classes at {len(order)} layers"
        )
    deviations, labels, part_of = clips.deviations(0, heard), clips.labels[:heard], clips.part_of[:heard]
    log_p = None if clips.log_p is None else clips.log_p[:heard]
    levelled = clips.level(np.ones(len(clips.labels), bool), clips.whole)
    if levelled is not None and (levelled.scale == 1).all() and (levelled.shift == 0).all():
        progress.note(
            "no validation clips of the larger classes: nothing makes up for what class size does to the evidence"
        )
    if wanted.rule == "gram":

        def scores(seen: npt.NDArray[np.bool_], held: npt.NDArray[np.bool_]) -> Array:
            scale = clips.expect(seen)
            first = _layers(deviations[seen], None if log_p is None else log_p[seen], labels[seen], scale, wanted)
            return np.log1p(total(deviations[held][:, first], scale[first]))

        far = cross_fit(part_of, scores)
        (sharpness,) = conditional_logit.fit(-far[..., None], labels, ridge=1e-3)
        right, fitted, sharp, together = accuracy(far.argmin(axis=1), labels), None, float(sharpness), None
    else:
        said, log_q = _together(clips, heard, sample, progress)
        found = fusion.choose(deviations, labels, part_of, clips.expect, clips.level, log_q=log_q, log_p=log_p)
        fitted, sharp, together = found.fusion, None, said
        told = np.isfinite(found.held_out).all(axis=1)
        right = accuracy(found.held_out[told].argmax(axis=1), labels[told])
    limit = None
    if limited:
        try:
            limit = threshold(clips.strangeness(), clips.groups, wanted.false_reject)
        except ValueError as error:
            progress.note(f"no threshold for unknown sounds: {error} in validation")
    return Fused(fitted, sharp, limit, right, levelled, together)


def _together(
    clips: ValidationSet, heard: int, sample: ClipSample | None, progress: Progress
) -> tuple[Discriminant | None, Array | None]:
    """Returns the discriminant, and what fits without a validation clip's part say of it; NaN if not sampled.

    Args:
        clips: Validation clips.
        heard: How many of them the rule is fitted on.
        sample: Clips to fit on.
        progress: Told of each fit.

    Shape:
        - returns: (heard, C)
    """
    if sample is None:
        return None, None
    keys = [bytes(key).hex() for key in clips.known.file["validation/key"][clips.rows]]
    place = {key: n for n, key in enumerate(keys)}
    names = {clips.known.classes[c]: n for n, c in enumerate(clips.columns)}
    training = sample.training
    used = np.flatnonzero([
        clip.label in names and (seen or clip.key in place)
        for clip, seen in zip(sample.clips, training, strict=True)
    ])  # fmt: skip
    sampled = [sample.clips[n] for n in used]
    spots = np.array([place.get(clip.key, -1) for clip in sampled], np.intp)
    part = np.where(training[used], -1, clips.part_of[spots])
    progress.start("what layers say together", len(np.unique(part)))
    try:
        learnt = discriminant.learn(
            {layer: take_rows(values, used) for layer, values in sample.descriptors.items()},
            np.array([names[clip.label] for clip in sampled], np.intp),
            part,
            len(names),
            lambda: progress.advance(1),
        )
    except ValueError as error:
        progress.note(f"nothing is learnt of all layers together: {error}")
        return None, None
    log_q = np.full((len(keys), len(names)), np.nan)
    log_q[spots[part >= 0]] = learnt.held_out
    return learnt.discriminant, log_q[:heard]


def _layers(
    deviations: Array, log_p: Array | None, labels: Array, expected: Array, wanted: DecisionSettings
) -> list[int]:
    """Returns which layers, in ranked order here, make up Δ̄ where only these clips are known."""
    order = list(range(len(expected)))
    if wanted.ranking != "paper":  # whose scores are those of training clips, so its order stands
        scores = [
            layer_score((deviations[:, n] / expected[n]).astype(np.float32), labels, wanted.ranking) for n in order
        ]
        order = [n for n in sorted(order, key=lambda n: -scores[n]) if np.isfinite(scores[n])] or order
    present = np.ones(deviations.shape[2], bool)
    found = curve((deviations[:, n] for n in order), expected[order], present, log_p, labels)
    return order[: how_many(wanted.top_k, found)]
