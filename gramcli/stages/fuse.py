"""What is fitted on validation clips once the layers are ranked, all of it cross-fitted by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli import settings
from gramcli.cache.statistics import Statistics
from gramcli.decide import class_size, discriminant, fusion, likelihood
from gramcli.decide.class_size import Levelling
from gramcli.decide.crossfit import crossfit, parts
from gramcli.decide.discriminant import Discriminant
from gramcli.decide.fusion import Fusion
from gramcli.decide.likelihood import log_softmax
from gramcli.decide.threshold import Threshold, threshold
from gramcli.decide.unknown import strangeness
from gramcli.gram.decision import total
from gramcli.gram.ranking import curve, how_many, layer_score
from gramcli.judge.metrics import accuracy
from gramcli.stages.progress import Progress
from gramcli.stages.sample import Sample

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Fused:
    """What validation clips gave."""

    fusion: Fusion | None
    sharpness: float | None
    threshold: Threshold | None
    held_out: float | None
    levelling: Levelling | None = None
    discriminant: Discriminant | None = None


def fuse(
    known: Statistics,
    order: tuple[str, ...],
    wanted: settings.Decision,
    sample: Sample | None,
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
    columns = np.flatnonzero(known.counts > 0)
    everyone = known.validation_labels
    fit_for = np.isin(everyone, columns)
    labels = np.searchsorted(columns, everyone[fit_for])
    groups = known.file["validation/group"][fit_for]
    # one layer at a time: the file may be larger than memory, what is left here is not
    deviations = np.stack([known.validation_deviations(layer)[fit_for][:, columns] for layer in order], axis=1)
    logits = known.validation_logits[fit_for]
    log_p = log_softmax(logits[:, columns]) if logits.shape[1] == len(known.classes) else None
    try:
        part_of = parts(groups, labels)
    except ValueError:
        progress.note("validation has fewer than two groups: nothing can be cross-fitted, and the rule is gram")
        return Fused(None, None, None, None)
    index = {layer: n for n, layer in enumerate(known.layers)}
    whole = known.expected[[index[layer] for layer in order]]

    sizes, counts = known.subsample_sizes, known.counts[columns]
    parted = None
    if sizes is not None:
        sizes = sizes[columns]
        parted = np.stack([known.subsample_deviations(layer)[fit_for] for layer in order], axis=1)
    largest = np.ones(len(counts), bool) if sizes is None else counts >= sizes.max()

    def expect(clips: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        where = np.flatnonzero(clips & largest[labels])
        if not len(where):
            return whole
        found = deviations[where, :, labels[where]].mean(axis=0, dtype=np.float64)
        # a layer whose bounds none of these clips leaves has to be measured with the others
        return np.where(found > 0, found, whole)

    learnt: dict[bytes, Levelling] = {}  # by clips: every ridge is tried on the same parts

    def level(clips: npt.NDArray[np.bool_], expected: npt.NDArray[np.float64]) -> Levelling | None:
        if sizes is None or parted is None:
            return None
        if (key := clips.tobytes()) not in learnt:
            spoken = fusion.evidence(parted[clips], expected)
            learnt[key] = class_size.learn(spoken, labels[clips], sizes, counts)
        return learnt[key]

    levelled = level(np.ones(len(labels), bool), whole)
    if levelled is not None and (levelled.scale == 1).all() and (levelled.shift == 0).all():
        progress.note(
            "no validation clips of the larger classes: nothing makes up for what class size does to the evidence"
        )
    if wanted.rule == "gram":

        def scores(seen: npt.NDArray[np.bool_], held: npt.NDArray[np.bool_]) -> Array:
            scale = expect(seen)
            first = _layers(deviations[seen], None if log_p is None else log_p[seen], labels[seen], scale, wanted)
            return np.log1p(total(deviations[held][:, first], scale[first]))

        far = crossfit(part_of, scores)
        (sharpness,) = likelihood.fit(-far[..., None], labels, ridge=1e-3)
        right, fitted, sharp, together = accuracy(far.argmin(axis=1), labels), None, float(sharpness), None
    else:
        said, log_q = _together(known, sample, columns, fit_for, part_of, progress)
        found = fusion.choose(deviations, labels, part_of, expect, level, log_q=log_q, log_p=log_p)
        fitted, sharp, together = found.fusion, None, said
        heard = np.isfinite(found.held_out).all(axis=1)
        right = accuracy(found.held_out[heard].argmax(axis=1), labels[heard])
    limit = None
    if limited:

        def strange_of(seen: npt.NDArray[np.bool_], held: npt.NDArray[np.bool_]) -> Array:
            expected = expect(seen)
            return strangeness(deviations[held], expected, level(seen, expected))

        strange = crossfit(part_of, strange_of)
        try:
            limit = threshold(strange, groups, wanted.false_reject)
        except ValueError as error:
            progress.note(f"no threshold for unknown sounds: {error} in validation")
    return Fused(fitted, sharp, limit, right, levelled, together)


def _together(
    known: Statistics,
    sample: Sample | None,
    columns: Array,
    fit_for: Array,
    part_of: npt.NDArray[np.intp],
    progress: Progress,
) -> tuple[Discriminant | None, Array | None]:
    """Returns the discriminant, and what fits without a validation clip's part say of it, (V, C); NaN if not sampled.

    Args:
        known: Statistics.
        sample: Clips to fit on.
        columns: Classes that have training clips.
        fit_for: Which validation clips are of these.
        part_of: Their parts, (V,).
        progress: Told of each fit.
    """
    if sample is None:
        return None, None
    keys = [bytes(key).hex() for key in known.file["validation/key"][fit_for]]
    place = {key: n for n, key in enumerate(keys)}
    names = {known.classes[c]: n for n, c in enumerate(columns)}
    training = sample.training
    used = np.flatnonzero([
        clip.label in names and (seen or clip.key in place)
        for clip, seen in zip(sample.clips, training, strict=True)
    ])  # fmt: skip
    clips = [sample.clips[n] for n in used]
    spots = np.array([place.get(clip.key, -1) for clip in clips], np.intp)
    part = np.where(training[used], -1, part_of[spots])
    progress.start("what layers say together", len(np.unique(part)))
    try:
        learnt = discriminant.learn(
            {layer: values[used] for layer, values in sample.descriptors.items()},
            np.array([names[clip.label] for clip in clips], np.intp),
            part,
            len(columns),
            lambda: progress.advance(1),
        )
    except ValueError as error:
        progress.note(f"nothing is learnt of all layers together: {error}")
        return None, None
    log_q = np.full((len(keys), len(columns)), np.nan)
    log_q[spots[part >= 0]] = learnt.held_out
    return learnt.discriminant, log_q


def _layers(
    deviations: Array, log_p: Array | None, labels: Array, expected: Array, wanted: settings.Decision
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
