"""Total deviation over layers (Eq. 11, 13) and the class of smallest total deviation (Eq. 14)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.blocks import blocks

BLOCK = 1 << 20
"""How many scores are compared at a time."""


def running_totals(
    deviations: Iterable[NDArray[np.float32]], expected: NDArray[np.floating]
) -> Iterator[NDArray[np.float64]]:
    """Yields Δ̄ over the first 1, 2, ... L layers.

    Layers are added one by one, so the bits of a clip's result do not depend on the other clips.

    Args:
        deviations: δ of each layer, (N, C). One layer is in memory at a time.
        expected: E_l, (L,).

    Raises:
        ValueError: There are not as many layers as E_l, or an E_l is not positive.

    Shape:
        - yields: (N, C)
    """
    if not len(expected) or not (np.isfinite(expected).all() and (expected > 0).all()):
        raise ValueError("an expected deviation is not positive; leave such layers out")
    total: NDArray[np.float64] | None = None
    for n, (layer, scale) in enumerate(zip(deviations, expected.tolist(), strict=True), 1):
        term = layer / np.float64(scale)
        total = term if total is None else total + term
        yield total / n


def total(deviations: NDArray[np.float32], expected: NDArray[np.floating]) -> NDArray[np.float64]:
    r"""Returns Δ̄, the mean over layers of the deviation divided by the expected deviation.

    $$\bar\Delta_c = \frac{1}{L} \sum_l \frac{\delta_{l,c}}{E_l}$$

    The paper's Δ (Eq. 11, 13) is L times Δ̄, and has the same argmin.

    Args:
        deviations: δ of the layers.
        expected: E_l, positive.

    Raises:
        ValueError: Shapes do not fit, or an E_l is not positive.

    Shape:
        - deviations: (N, L, C)
        - expected: (L,)
        - returns: (N, C)
    """
    _, layers, _ = deviations.shape
    if layers == 0 or expected.shape != (layers,):
        raise ValueError(f"expected deviations of shape {expected.shape} do not fit {layers} layers")
    (last,) = deque(running_totals(np.moveaxis(deviations, 1, 0), expected), maxlen=1)
    return last


@dataclass(frozen=True, eq=False)
class Choice:
    """The class that was chosen for each of N clips."""

    label: NDArray[np.int64]
    """The class, (N,); -1 if no class with training clips has a score."""
    runner_up: NDArray[np.int64]
    """The class with the next best score, (N,); -1 if there is none."""
    score: NDArray[np.float64]
    """Score of the label, (N,); NaN without a label."""
    margin: NDArray[np.float64]
    """Score of the runner-up minus score of the label, (N,); NaN without a runner-up."""
    tied: NDArray[np.bool_]
    """Whether label and runner-up have the same score, (N,). Then the logits or the class order decided."""


def decide(scores: NDArray[Any], present: NDArray[np.bool_], logits: NDArray[Any] | None = None) -> Choice:
    """Chooses the class of smallest score (Eq. 14).

    If scores are equal, the larger logit wins, and then the first class. A score or logit that is NaN never wins.

    Args:
        scores: Higher means less like the class.
        present: Which classes have training clips. No other class is chosen.
        logits: Outputs of the network, if they are the classes.

    Raises:
        ValueError: Shapes do not fit.

    Shape:
        - scores, logits: (N, C)
        - present: (C,)
    """
    if present.shape != scores.shape[1:] or (logits is not None and logits.shape != scores.shape):
        raise ValueError(f"the shapes of present or logits do not fit scores of {scores.shape}")
    label, runner_up = np.empty(len(scores), np.int64), np.empty(len(scores), np.int64)
    score, margin = np.empty(len(scores)), np.empty(len(scores))
    tied = np.empty(len(scores), np.bool_)
    for rows in blocks(len(scores), scores.shape[1], BLOCK):  # a few arrays of this size are in memory at once
        some = None if logits is None else logits[rows]
        one = _decide(np.asarray(scores[rows], np.float64), present, some)
        label[rows], runner_up[rows], tied[rows] = one.label, one.runner_up, one.tied
        score[rows], margin[rows] = one.score, one.margin
    return Choice(label, runner_up, score, margin, tied)


def _decide(scores: NDArray[np.float64], present: NDArray[np.bool_], logits: NDArray[Any] | None) -> Choice:
    candidate = present & ~np.isnan(scores)
    candidates = candidate.sum(axis=1)
    order = _two_smallest(np.where(candidate, scores, np.inf), candidate, logits)
    first, second = order[:, :1], order[:, 1:]
    best = np.take_along_axis(scores, first, axis=1)[:, 0]
    next_best = np.take_along_axis(scores, second, axis=1)[:, 0]
    tied = (candidates > 1) & (best == next_best)
    with np.errstate(invalid="ignore"):  # inf - inf is a tie
        margin = np.where(tied, 0.0, next_best - best)
    return Choice(
        label=np.where(candidates > 0, first[:, 0], -1),
        runner_up=np.where(candidates > 1, second[:, 0], -1),
        score=np.where(candidates > 0, best, np.nan),
        margin=np.where(candidates > 1, margin, np.nan),
        tied=tied,
    )


def _two_smallest(
    scores: NDArray[np.float64], candidate: NDArray[np.bool_], logits: NDArray[Any] | None
) -> NDArray[np.intp]:
    """Returns the two classes of each clip that come first by score, logit and class order, (N, 2).

    Only clips with equal scores are sorted: with many classes, sorting takes much longer than looking for the smallest.

    Args:
        scores: Scores, inf where there is no candidate; changed by this function.
        candidate: Which classes can be chosen, (N, C).
        logits: Outputs of the network, (N, C), or None.
    """
    clips = np.arange(len(scores))
    order, unclear = np.empty((len(scores), 2), np.intp), np.zeros(len(scores), np.bool_)
    as_given = scores.copy()
    for column in (0, 1):
        order[:, column] = scores.argmin(axis=1)
        smallest = scores[clips, order[:, column]]
        unclear |= (smallest == np.inf) | (np.count_nonzero(scores == smallest[:, None], axis=1) > 1)
        scores[clips, order[:, column]] = np.inf
    rows = np.flatnonzero(unclear)
    if len(rows):
        keys = as_given[rows], ~candidate[rows]
        # The last key comes first. NaN sorts last. Where all keys are equal, the class order stays.
        sorted_rows = np.lexsort(keys if logits is None else (-np.asarray(logits[rows], np.float64), *keys), axis=-1)
        order[rows] = sorted_rows[:, [0, min(1, scores.shape[1] - 1)]]
    return order
