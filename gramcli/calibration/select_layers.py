"""``gramcli select-layers``: ranks the layers, chooses how many of them make up Δ̄, and fits the rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.blocks import blocks
from gramcli.cache import decision as decisions
from gramcli.cache.calibrated import CalibratedCache
from gramcli.cache.decision import Decision, LayerRanking
from gramcli.cache.statistics import Statistics
from gramcli.calibration.clip_sample import MAX_CLIPS, ClipSample
from gramcli.calibration.fit_rule import FitResult, fit_rule, fit_threshold, unfitted_rule
from gramcli.calibration.paper_ranking import negative_means
from gramcli.calibration.size_limits import (
    MAX_DISCRIMINANT_BYTES,
    PREFERRED_NUMBERS,
    discriminant_bytes,
    require_negatives,
)
from gramcli.calibration.validation_set import ValidationSet
from gramcli.dataset.clip import sample_clips
from gramcli.errors import ArtefactError, UsageError
from gramcli.gram.ranking import correct, how_many, layer_score, paper_score
from gramcli.progress import Progress, Silent
from gramcli.settings.schema import DecisionSettings
from gramcli.system import folder_lock
from gramcli.text import shown

Array = npt.NDArray[Any]


def select_layers(
    cache: str | Path = ".gramcli",
    wanted: DecisionSettings | None = None,
    *,
    epsilon: float | None = None,
    progress: Progress | None = None,
) -> tuple[Decision, Statistics]:
    """Ranks the layers by how well they separate the classes, chooses the first k, fits the rule and stores both.

    Args:
        cache: Folder of the cache.
        wanted: Ranking, rule, false-reject rate, and the number of layers k: a number, ``all``, or ``auto``. The value
            ``auto`` chooses the k of the best validation accuracy, and the largest of several.
        epsilon: The ε that the statistics must have been computed with; any if None.
        progress: Receives steps and notes.

    Returns:
        The decision, and the statistics that it was computed from.

    Raises:
        ArtefactError: Calibrate has not run, clips have changed since then, or no layer can be used.
        UsageError: More layers are asked for than can be used.
        DamagedError: A file of the cache is damaged.
        LockedError: Another process writes to the cache.
    """
    cache, wanted, progress = Path(cache), wanted or DecisionSettings(), progress or Silent()
    with folder_lock.lock(cache):
        source = CalibratedCache.open(cache)
        decision = make_decision(source, wanted, progress, epsilon=epsilon)
        decisions.save(cache, decision)
    return decision, source.statistics


def make_decision(
    source: CalibratedCache,
    wanted: DecisionSettings,
    progress: Progress,
    *,
    epsilon: float | None = None,
    with_threshold: bool = True,
) -> Decision:
    """Computes the decision of `select_layers` without storing it; with no threshold if `with_threshold` is false."""
    statistics = source.statistics
    if epsilon not in (None, statistics.epsilon):
        raise ArtefactError(
            f"{shown(statistics.file.path)}: was made with epsilon {statistics.epsilon:g}, not {epsilon:g}; run "
            "gramcli calibrate with the same --preset"
        )
    ranking = _rank(source, wanted, progress)
    try:
        validation = ValidationSet.read(statistics, ranking.layers)
    except ValueError:
        progress.note("validation has fewer than two groups: nothing can be cross-fitted, and the rule is gram")
        fitted = FitResult(unfitted_rule(ranking, statistics.expected_of(ranking.layers)), None)
        return Decision(ranking, fitted.rule, None, statistics.digest)
    sample = None
    if wanted.rule == "fused":
        sample = _sample(source, ranking.layers, progress)
    fitted = fit_rule(validation, ranking, wanted, sample, progress)
    rule = fitted.rule
    if with_threshold:
        rule = replace(rule, threshold=fit_threshold(validation, wanted.false_reject, progress))
    return Decision(ranking, rule, fitted.held_out, statistics.digest)


def _sample(source: CalibratedCache, layers: tuple[str, ...], progress: Progress) -> ClipSample | None:
    """Reads the clips for the discriminant; None, with a note, if it would take too much memory."""
    clips = source.clips.used("train", "validation")
    count, channels = len(sample_clips(clips, MAX_CLIPS)), sum(source.statistics.layers[layer] for layer in layers)
    if discriminant_bytes(count, channels, len(source.statistics.classes)) > MAX_DISCRIMINANT_BYTES:
        progress.note(
            f"no discriminant over all layers: {count} clips (one of each class at least) × {channels} channels take "
            f"more than {MAX_DISCRIMINANT_BYTES / 2**30:g} GiB"
        )
        return None
    return ClipSample.read(source.view, clips, layers, progress)


def _rank(source: CalibratedCache, wanted: DecisionSettings, progress: Progress) -> LayerRanking:
    """Ranks the layers by their scores and chooses how many make up Δ̄."""
    statistics = source.statistics
    negatives = None
    if wanted.ranking == "paper":
        training = source.clips.used("train")
        require_negatives(len(training), len(statistics.classes), len(statistics.layers))
        negatives = negative_means(source.view, training, statistics, progress)
    scores = _scores(statistics, wanted.ranking, negatives, progress)
    # best first; equal scores in the order of the forward pass
    order = tuple(sorted(scores, key=lambda layer: -scores[layer]))
    if not order:
        raise ArtefactError(
            f"{shown(source.folder)}: no layer separates the classes; add validation clips, and run gramcli extract "
            "and gramcli calibrate again"
        )
    accuracy = _curve(statistics, order)
    if isinstance(wanted.top_k, int) and wanted.top_k > len(order):
        raise UsageError(f"decision.top_k is {wanted.top_k}, but only {len(order)} layers can be used")
    return LayerRanking(
        wanted.ranking,
        str(wanted.top_k),
        order,
        tuple(scores[layer] for layer in order),
        tuple(accuracy.tolist()),
        how_many(wanted.top_k, accuracy),
    )


def _scores(statistics: Statistics, ranking: str, negatives: Array | None, progress: Progress) -> dict[str, float]:
    """Returns I_l (Eq. 12) of each layer, if it is finite and the layer's E_l is not 0.

    If `negatives` is given, the result of `negative_means`, the score is the paper's.
    """
    counts, expected, labels = statistics.counts, statistics.expected, statistics.validation.labels
    scores: dict[str, float] = {}
    progress.start("ranking", len(statistics.layers))
    for n, layer in enumerate(statistics.layers):
        if expected[n] > 0:
            if negatives is not None:
                # the negatives of a class are the training clips of all others
                negative_counts = np.where(counts > 0, counts.sum() - counts, 0)
                score = paper_score(negatives[n], negative_counts)
            else:
                # divided by E_l, so that layers of many channels do not get larger scores
                scaled = statistics.validation_deviations(layer)
                for rows in blocks(len(scaled), scaled.shape[1], PREFERRED_NUMBERS):
                    scaled[rows] = scaled[rows] / expected[n]  # in float64, then rounded
                score = layer_score(scaled, labels, ranking, counts > 0)
            if np.isfinite(score):
                scores[layer] = score
        progress.advance(1)
    return scores


def _curve(statistics: Statistics, order: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Returns the validation accuracy of the smallest Δ̄ over the first 1, 2, ... layers."""
    labels, logits = statistics.validation.labels, statistics.validation.logits
    expected, present = statistics.expected_of(order), statistics.counts > 0
    hits = np.zeros(len(order), np.int64)
    for rows in blocks(len(labels), len(statistics.classes), PREFERRED_NUMBERS):
        # one layer and some clips at a time: classes can be many
        deviations = (statistics.validation_deviations(layer, rows) for layer in order)
        usable = logits[rows] if logits.shape[1] == len(statistics.classes) else None
        hits += correct(deviations, expected, present, usable, labels[rows])
    return hits / len(labels)
