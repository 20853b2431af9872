"""Total deviation over layers (Eq. 11, 13) and the class it points to (Eq. 14)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def running_totals(
    deviations: Iterable[NDArray[np.float32]], expected: NDArray[np.floating]
) -> Iterator[NDArray[np.float64]]:
    """Yields Δ̄ over the first 1, 2, ... L layers; one addition a layer, so a clip never depends on the others.

    Args:
        deviations: δ layer by layer, (N, C) each; read one at a time.
        expected: E_l, (L,).

    Raises:
        ValueError: Not as many layers as numbers, or some E_l is not positive: such a layer says nothing.

    Shape:
        - yields: (N, C)
    """
    if not len(expected) or not (np.isfinite(expected).all() and (expected > 0).all()):
        raise ValueError("an expected deviation is not positive: leave such layers out")
    total: NDArray[np.float64] | None = None
    for n, (layer, scale) in enumerate(zip(deviations, expected.tolist(), strict=True), 1):
        term = layer / np.float64(scale)
        total = term if total is None else total + term
        yield total / n


def total(deviations: NDArray[np.float32], expected: NDArray[np.floating]) -> NDArray[np.float64]:
    r"""Returns the mean over layers of the deviations in units of the expected ones.

    $$\bar\Delta_c = \frac{1}{L} \sum_l \frac{\delta_{l,c}}{E_l}$$

    The paper's Δ (Eq. 11, 13) is L times that, which no argmin notices.

    Args:
        deviations: δ of the chosen layers.
        expected: E_l, positive.

    Raises:
        ValueError: As `running_totals`, or shapes do not fit.

    Shape:
        - deviations: (N, L, C)
        - expected: (L,)
        - returns: (N, C)
    """
    _, layers, _ = deviations.shape
    if layers == 0 or expected.shape != (layers,):
        raise ValueError(f"{expected.shape} expected deviations do not fit {layers} layers")
    (last,) = deque(running_totals(np.moveaxis(deviations, 1, 0), expected), maxlen=1)
    return last


@dataclass(frozen=True, eq=False)
class Choice:
    """What was decided for each of N clips."""

    label: NDArray[np.int64]
    """Class; -1 where no present class has a score."""
    runner_up: NDArray[np.int64]
    """Next class; -1 where there is none."""
    score: NDArray[np.float64]
    """Score of the label; NaN without one."""
    margin: NDArray[np.float64]
    """Score of the runner-up minus that of the label; NaN without a runner-up."""
    tied: NDArray[np.bool_]
    """Whether runner-up and label have the same score, so that the logits or the class order decided."""


def decide(scores: NDArray[Any], present: NDArray[np.bool_], logits: NDArray[Any] | None = None) -> Choice:
    """Chooses the class of smallest score (Eq. 14).

    Equal scores are told apart by the larger logit, then by class order. A score or logit that is NaN never wins.

    Args:
        scores: Higher is less like the class.
        present: Classes that have training clips; no other is chosen.
        logits: The network's own, if its outputs are the classes.

    Raises:
        ValueError: Shapes do not fit.

    Shape:
        - scores, logits: (N, C)
        - present: (C,)
    """
    if present.shape != scores.shape[1:] or (logits is not None and logits.shape != scores.shape):
        raise ValueError(f"presence or logits do not fit scores of {scores.shape}")
    scores = np.asarray(scores, np.float64)
    candidate = present & ~np.isnan(scores)
    doubt = np.zeros_like(scores) if logits is None else -np.asarray(logits, np.float64)
    # The last key counts most; NaN sorts last; equal ones keep the order of the classes.
    order = np.lexsort((doubt, np.where(candidate, scores, np.inf), ~candidate), axis=-1)
    first, second = order[:, :1], order[:, 1:2]
    if second.size == 0:
        second = first  # one class only: never a runner-up, by the count below
    candidates = candidate.sum(axis=1)
    best = np.take_along_axis(scores, first, axis=1)[:, 0]
    next_best = np.take_along_axis(scores, second, axis=1)[:, 0]
    tied = (candidates > 1) & (best == next_best)
    with np.errstate(invalid="ignore"):  # inf - inf, a tie
        margin = np.where(tied, 0.0, next_best - best)
    return Choice(
        label=np.where(candidates > 0, first[:, 0], -1),
        runner_up=np.where(candidates > 1, second[:, 0], -1),
        score=np.where(candidates > 0, best, np.nan),
        margin=np.where(candidates > 1, margin, np.nan),
        tied=tied,
    )
