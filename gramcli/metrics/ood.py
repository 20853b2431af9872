"""Figures of out-of-distribution detection: AUROC, AUPR and FPR at a TPR of scores, and the interval of the AUROC."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.metrics.intervals import MIN_GROUPS, proportion


def auroc(known: NDArray[Any], unknown: NDArray[Any]) -> float:
    """Returns the probability that an unknown clip scores above a known one, ties counting half; NaN without either.

    This is the Mann-Whitney statistic divided by the number of pairs. 0.5 is chance; below 0.5, known clips score
    higher.

    Args:
        known: Scores of known clips; higher is more unknown.
        unknown: Scores of unknown clips.

    Raises:
        ValueError: There is not one score per clip, or a score is NaN.

    Shape:
        - known: (N,)
        - unknown: (M,)
    """
    known, unknown = _scores(known), _scores(unknown)
    if not len(known) or not len(unknown):
        return math.nan
    ordered = np.sort(known)
    # clips below plus half of those level: twice the midrank among the known, without its offset
    below = np.searchsorted(ordered, unknown, "left") + np.searchsorted(ordered, unknown, "right")
    return float(below.mean() / (2 * len(known)))


def aupr(known: NDArray[Any], unknown: NDArray[Any]) -> float:
    r"""Returns the average precision of finding unknown clips; NaN without one of either.

    $$\mathrm{AP} = \sum_i (R_i - R_{i-1}) P_i$$

    over the distinct scores from the highest down, where R_i and P_i are recall and precision if all clips from that
    score on are called unknown, without interpolation. The value at chance is the share of unknown clips, so compare
    only figures of the same clips.

    Args:
        known: Scores of known clips; higher is more unknown.
        unknown: Scores of unknown clips.

    Raises:
        ValueError: There is not one score per clip, or a score is NaN.

    Shape:
        - known: (N,)
        - unknown: (M,)
    """
    known, unknown = _scores(known), _scores(unknown)
    if not len(known) or not len(unknown):
        return math.nan
    at, found = np.unique(unknown, return_counts=True)
    right = len(unknown) - np.searchsorted(np.sort(unknown), at, "left")
    wrong = len(known) - np.searchsorted(np.sort(known), at, "left")
    return float((found / len(unknown) * right / (right + wrong)).sum())


def fpr_at_tpr(known: NDArray[Any], unknown: NDArray[Any], tpr: float = 0.95) -> float:
    """Returns the share of unknown clips that are accepted if a share `tpr` of known clips is; NaN without either.

    As usual in out-of-distribution detection, known clips are the positives. The threshold is the smallest score with
    at least `tpr` of them at or below it; an unknown clip at or below it is a false positive. Lower is better.

    Args:
        known: Scores of known clips; higher is more unknown.
        unknown: Scores of unknown clips.
        tpr: Rate of known clips accepted, above 0 and at most 1.

    Raises:
        ValueError: There is not one score per clip, or a score is NaN; or `tpr` is no such rate.

    Shape:
        - known: (N,)
        - unknown: (M,)
    """
    if not 0 < tpr <= 1:
        raise ValueError(f"a rate of accepted clips is above 0 and at most 1, not {tpr:g}")
    known, unknown = _scores(known), _scores(unknown)
    if not len(known) or not len(unknown):
        return math.nan
    # a whole number with a rounding error must not be raised to the next one
    rank = max(math.ceil(tpr * len(known) - 1e-9), 1)
    return float((unknown <= np.sort(known)[rank - 1]).mean())


@dataclass(frozen=True, eq=False)
class GroupedScores:
    """Scores of clips, and the source that each clip comes from.

    Raises:
        ValueError: There is not one group per clip.
    """

    scores: NDArray[Any]
    """(N,); higher is more unknown."""
    groups: NDArray[Any]
    """(N,), values of any kind; clips of one source have the same."""

    def __post_init__(self) -> None:
        if np.shape(self.scores) != np.shape(self.groups):
            raise ValueError(f"{np.shape(self.scores)} scores need one group per clip, not {np.shape(self.groups)}")


def auroc_interval(
    known: GroupedScores, unknown: GroupedScores, *, resamples: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    r"""Returns the ends of the 95 % interval of `auroc`, or None with fewer than `MIN_GROUPS` groups on a side.

    Whole groups are drawn with replacement, separately among known and unknown clips. The ends are quantiles of the
    areas drawn. As a bootstrap of few groups is too narrow, the quantiles lie further out than 2.5 and 97.5 %: they are
    those of the t distribution with the groups of the smaller side (the expanded percentile interval of Hesterberg
    2015). If all known clips score below all unknown ones, or above, all draws are equal; the interval is then that of
    a rate with as many trials as the smaller side has groups (Clopper & Pearson 1934).

    Args:
        known: Known clips.
        unknown: Unknown clips.
        resamples: Number of random draws.
        seed: Seeds these draws.

    Raises:
        ValueError: A score is NaN.
    """
    area = auroc(known.scores, unknown.scores)
    group_of = [np.unique(side.groups, return_inverse=True)[1] for side in (known, unknown)]
    sizes = [int(of.max(initial=-1)) + 1 for of in group_of]
    few = min(sizes)
    if few < MIN_GROUPS:
        return None
    if area in (0, 1):
        low, high = proportion(round(area * few), few)
        return (low, 1.0) if area == 1 else (0.0, high)
    # the distinct scores and the clips at each are found once; a draw then only weighs them
    at = np.unique(np.concatenate([known.scores, unknown.scores]), return_inverse=True)[1]
    first = len(known.scores)
    ranks, values = [at[:first], at[first:]], int(at.max()) + 1
    rng = np.random.default_rng(seed)
    areas = np.empty(resamples)
    for n in range(resamples):
        counts = [np.bincount(rng.integers(size, size=size), minlength=size) for size in sizes]
        known_counts, unknown_counts = (
            np.bincount(rank, weights=count[of], minlength=values)
            for rank, count, of in zip(ranks, counts, group_of, strict=True)
        )
        areas[n] = (
            unknown_counts @ (np.cumsum(known_counts) - known_counts / 2) / (known_counts.sum() * unknown_counts.sum())
        )

    from scipy.stats import norm, t  # takes most of a second to import

    tail = norm.cdf(math.sqrt(few / (few - 1)) * t.ppf(0.025, few - 1))
    low, high = np.quantile(areas, [tail, 1 - tail])
    return float(low), float(high)


def _scores(scores: NDArray[Any]) -> NDArray[np.float64]:
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or np.isnan(scores).any():
        raise ValueError(f"one score per clip expected, none NaN; these are {scores.shape}")
    return scores
