"""``gramcli select-layers``: which layers tell the classes apart, how many of them decide, and by which rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache import clip_table, statistics
from gramcli.cache import decision as decisions
from gramcli.cache.decision import Decision
from gramcli.cache.statistics import Statistics
from gramcli.cache.view import View
from gramcli.calibration.clip_sample import ClipSample
from gramcli.calibration.fit_rule import fit_rule
from gramcli.calibration.paper_ranking import negative_means
from gramcli.errors import ArtefactError, UsageError
from gramcli.gram.ranking import curve, how_many, layer_score, paper_score
from gramcli.progress import Progress, Silent
from gramcli.settings.schema import DecisionSettings
from gramcli.system import durable_files
from gramcli.text import shown

Array = npt.NDArray[Any]


def select_layers(
    cache: str | Path = ".gramcli",
    wanted: DecisionSettings | None = None,
    *,
    epsilon: float | None = None,
    progress: Progress | None = None,
) -> tuple[Decision, Statistics]:
    """Ranks the layers by how well they separate validation clips, chooses the first k, fits the rule and stores both.

    Args:
        cache: Folder of the cache.
        wanted: Ranking, and how many layers: a number, ``all``, or ``auto`` for the k of best validation accuracy
            (the largest where several are best, as more layers are the broader evidence); rule and false-reject rate.
        epsilon: The ε that the statistics must have been made with; any if None.
        progress: Told of steps and notes.

    Returns:
        The decision, and the statistics it was made from.

    Raises:
        ArtefactError: Calibrate has not run, its clips have changed since, or no layer can be used.
        UsageError: More layers asked for than there are.
        DamagedError: A file of the cache is not as it was written.
    """
    cache = Path(cache)
    with durable_files.lock(cache):
        known = statistics.load(cache, View.open(cache).fingerprint)
        decision = make_decision(cache, known, wanted or DecisionSettings(), epsilon, progress or Silent())
        decisions.save(cache, decision)
    return decision, known


def make_decision(
    cache: Path,
    known: Statistics,
    wanted: DecisionSettings,
    epsilon: float | None,
    progress: Progress,
    *,
    limited: bool = True,
) -> Decision:
    """Makes the decision of `select_layers` and stores nothing; without a threshold where not `limited`."""
    require_current(cache, known)
    if epsilon not in (None, known.epsilon):
        raise ArtefactError(
            f"{shown(known.file.path)}: was made with epsilon {known.epsilon:g}, not {epsilon:g}; "
            f"run gramcli calibrate with the same --preset"
        )
    negatives = None
    if wanted.ranking == "paper":
        negatives = negative_means(View.open(cache), clip_table.require(cache).used("train"), known, progress)
    scores = _scores(known, wanted.ranking, negatives, progress)
    # best first; equal ones in the order of the forward pass
    order = sorted(scores, key=lambda layer: -scores[layer])
    if not order:
        raise ArtefactError(f"{shown(cache)}: no layer separates the classes; add validation clips and calibrate again")
    accuracy = _curve(known, order)
    if isinstance(wanted.top_k, int) and wanted.top_k > len(order):
        raise UsageError(f"decision.top_k is {wanted.top_k}, but only {len(order)} layers can be used")
    chosen = how_many(wanted.top_k, accuracy)
    sample = None
    if wanted.rule == "fused":
        clips = clip_table.require(cache).used("train", "validation")
        sample = ClipSample.read(View.open(cache), clips, order, progress)
    fused = fit_rule(known, tuple(order), wanted, sample, progress, limited=limited)
    return Decision(
        ranking=wanted.ranking,
        top_k=str(wanted.top_k),
        order=tuple(order),
        scores=tuple(scores[layer] for layer in order),
        accuracy=tuple(accuracy.tolist()),
        chosen=chosen,
        statistics=known.file.digest,
        rule="gram" if fused.fusion is None else wanted.rule,
        fusion=fused.fusion,
        sharpness=fused.sharpness,
        threshold=fused.threshold,
        held_out=fused.held_out,
        levelling=fused.levelling,
        discriminant=fused.discriminant,
    )


def require_current(cache: Path, known: Statistics) -> None:
    """Raises an ArtefactError if labels, splits or groups have changed since the statistics were made."""
    if clip_table.require(cache).digest("train", "validation") != known.clips:
        raise ArtefactError(f"{shown(known.file.path)}: the clips have changed since; run gramcli calibrate again")


def _scores(known: Statistics, ranking: str, negatives: Array | None, progress: Progress) -> dict[str, float]:
    """Returns I_l (Eq. 12) of every layer that has one and whose E_l is not 0; by `negatives` where they are given."""
    counts, expected = known.counts, known.expected
    labels = known.validation_labels
    scores: dict[str, float] = {}
    progress.start("ranking", len(known.layers))
    for n, layer in enumerate(known.layers):
        if expected[n] > 0:
            if negatives is not None:
                # a class has negatives where another one has training clips
                has = np.where(counts > 0, counts.sum() - counts, 0)
                score = paper_score(negatives[n], has)
            else:
                # in units of E_l, so that layers of many channels do not win by their size
                scaled = (known.validation_deviations(layer) / expected[n]).astype(np.float32)
                score = layer_score(scaled, labels, ranking, counts > 0)
            if np.isfinite(score):
                scores[layer] = score
        progress.advance(1)
    return scores


def _curve(known: Statistics, order: list[str]) -> npt.NDArray[np.float64]:
    index = {layer: n for n, layer in enumerate(known.layers)}
    expected = known.expected[[index[layer] for layer in order]]
    logits = known.validation_logits
    deviations = (known.validation_deviations(layer) for layer in order)  # one at a time: classes can be many
    usable = logits if logits.shape[1] == len(known.classes) else None
    return curve(deviations, expected, known.counts > 0, usable, known.validation_labels)
