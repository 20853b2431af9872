"""Confidence intervals and tests: of the difference between two decisions on the same clips, and of a rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_GROUPS = 10
"""Number of groups below which groups are not resampled, as they tell too little of how groups differ."""

_EXACT = 14
"""Number of groups up to which every pattern of signs is counted."""
_BLOCK = 1 << 22
"""Random numbers drawn at once."""


@dataclass(frozen=True)
class Paired:
    """The mean difference between two decisions over clips, with its interval and p-value."""

    mean: float
    low: float | None
    """Lower end of the 95 % interval; None with fewer than `MIN_GROUPS` groups."""
    high: float | None
    """Upper end."""
    p: float
    """Two-sided p-value: the chance of a mean at least as far from 0 if the sign of every group were random."""
    groups: int
    clips: int


def paired(differences: NDArray[Any], groups: NDArray[Any], *, resamples: int = 10_000, seed: int = 0) -> Paired:
    """Compares two decisions on the same clips, with whole groups of clips as the independent units.

    The interval is the bootstrap-t interval of the mean over clips (Efron & Tibshirani 1993, 12.5): groups are drawn
    with replacement, and each mean is divided by its own linearised standard error, since groups are few and differ in
    size. The test flips the signs of whole groups: all patterns of up to 14 groups, else `resamples` random
    ones with the observed pattern among them.

    Args:
        differences: Of each clip, e.g. 1 where only the first decision is right, -1 where only the second is.
        groups: Source of each clip.
        resamples: Number of random draws.
        seed: Seeds these draws.

    Raises:
        ValueError: No clips, or shapes do not fit.

    Shape:
        - differences, groups: (N,)
    """
    if differences.shape != groups.shape or differences.ndim != 1 or not len(differences):
        raise ValueError(f"differences of {differences.shape} do not fit groups of {groups.shape}")
    group_of = np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(group_of, weights=np.asarray(differences, np.float64))
    sizes = np.bincount(group_of).astype(np.float64)
    rng = np.random.default_rng(seed)
    low, high = _bootstrap_t(sums, sizes, resamples, rng) if len(sums) >= MIN_GROUPS else (None, None)
    mean = float(sums.sum() / sizes.sum())
    return Paired(mean, low, high, _sign_flips(sums, resamples, rng), len(sums), len(differences))


def proportion(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the ends of the exact interval of a rate (Clopper & Pearson 1934), for independent trials.

    Raises:
        ValueError: No trial, more successes than trials, or a confidence that is not between 0 and 1.
    """
    if not 0 <= successes <= trials or not trials or not 0 < confidence < 1:
        raise ValueError(f"{successes} of {trials} at confidence {confidence:g} has no interval")

    return _exact(successes, trials, (1 - confidence) / 2)


def grouped_proportion(successes: NDArray[Any], trials: NDArray[Any]) -> tuple[float, float]:
    r"""Returns the ends of the 95 % interval of a rate whose trials are dependent within groups.

    Each end is that of `proportion` for an effective number of trials. Trials of one group are worth at least one
    independent trial, and G groups of unequal sizes $m_g$ at least

    $$n_0 = (\sum m_g)^2 / \sum m_g^2$$

    (Kish 1965). The end on the rare side of the rate, e.g. the lower end of a small rate, uses the effective number
    that the spread between groups shows, $p(1-p)/\hat V(p)$ in the degrees of freedom of G groups (Korn & Graubard
    1998), if that is larger. The other end does not: a rare event occurs in few groups, and their spread does not show
    how much rarer or more frequent it may be.

    Args:
        successes: In each group.
        trials: In each group, at least 1.

    Raises:
        ValueError: No group, one without trials or with more successes than trials, or shapes that do not fit.

    Shape:
        - successes, trials: (G,)
    """
    if successes.shape != trials.shape or successes.ndim != 1 or not len(trials) or (trials < 1).any():
        raise ValueError(f"successes of {successes.shape} do not fit groups of {trials.shape}")
    sums, sizes = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    whole = sizes.sum()
    rate = sums.sum() / whole
    least = float(whole**2 / (sizes**2).sum())
    if not ((sums >= 0) & (sums <= sizes)).all():
        raise ValueError("a group has more successes than trials, or fewer than none")
    effective = least
    if 0 < rate < 1 and len(sizes) > 1:
        error = float(_standard_error(sums, sizes, np.asarray(rate)))
        observed = min(whole, rate * (1 - rate) / error**2) if error > 0 else whole

        from scipy.stats import t  # takes most of a second to import

        few, many = t.ppf(0.975, [len(sizes) - 1, whole - 1])
        effective = max(least, observed * (many / few) ** 2)
    low, high = (effective, least) if rate < 0.5 else (least, effective)
    return _exact(rate * low, low, 0.025)[0], _exact(rate * high, high, 0.025)[1]


def _exact(successes: float, trials: float, tail: float) -> tuple[float, float]:
    """Clopper and Pearson's interval; effective numbers of trials need not be whole."""
    from scipy.stats import beta  # takes most of a second to import

    low = float(beta.ppf(tail, successes, trials - successes + 1)) if successes > 0 else 0.0
    high = float(beta.ppf(1 - tail, successes + 1, trials - successes)) if successes < trials else 1.0
    return low, high


def _standard_error(sums: NDArray[Any], sizes: NDArray[Any], mean: NDArray[Any]) -> NDArray[Any]:
    """Returns the standard error of a ratio of sums over the last axis, by linearisation."""
    n = sums.shape[-1]
    away = sums - mean[..., None] * sizes
    error: NDArray[Any] = np.sqrt(n / (n - 1) * (away**2).sum(axis=-1)) / sizes.sum(axis=-1)
    return error


def _bootstrap_t(
    sums: NDArray[Any], sizes: NDArray[Any], resamples: int, rng: np.random.Generator
) -> tuple[float, float]:
    mean = sums.sum() / sizes.sum()
    error = _standard_error(sums, sizes, np.asarray(mean))
    if error == 0:  # all groups agree
        return float(mean), float(mean)
    n = len(sums)
    pivots = []
    for first in range(0, resamples, max(1, _BLOCK // n)):
        drawn = rng.integers(n, size=(min(max(1, _BLOCK // n), resamples - first), n))
        some, of = sums[drawn], sizes[drawn]
        means = some.sum(axis=1) / of.sum(axis=1)
        errors = _standard_error(some, of, means)
        # the error of a draw whose groups all agree is 0; that of the sample is used instead
        pivots.append((means - mean) / np.where(errors > 0, errors, error))
    lower, upper = np.quantile(np.concatenate(pivots), [0.025, 0.975])
    # a mean of differences in [-1, 1] stays there, and so does its interval
    bound = np.abs(sums / sizes).max()
    return float(max(mean - upper * error, -max(bound, 1))), float(min(mean - lower * error, max(bound, 1)))


def _sign_flips(sums: NDArray[Any], resamples: int, rng: np.random.Generator) -> float:
    """Returns the p-value of the sign-flip test; groups that sum to 0 have no sign to flip."""
    some = sums[sums != 0]
    n = len(some)
    if n == 0:
        return 1.0
    observed = abs(some.sum()) * (1 - 1e-12)
    if n <= _EXACT:
        signs = 1 - 2.0 * ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1)
        return float((np.abs(signs @ some) >= observed).mean())
    extreme = 0
    for first in range(0, resamples, max(1, _BLOCK // n)):
        flips = 1 - 2.0 * rng.integers(2, size=(min(max(1, _BLOCK // n), resamples - first), n))
        extreme += int((np.abs(flips @ some) >= observed).sum())
    return (extreme + 1) / (resamples + 1)
