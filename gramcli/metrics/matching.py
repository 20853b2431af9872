"""Caliper matching: pairs of a known and an unknown clip that are alike in features such as length and level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_MATCHED = 2000
"""Maximum number of known clips, and of unknown clips, that are matched; of more clips a random sample is taken."""


@dataclass(frozen=True)
class Caliper:
    """How far the two clips of a pair may differ in each feature."""

    width: float = 0.25
    """In standard deviations within the two sides."""
    least: Sequence[float] | None = None
    """Differences that do not matter, however small the spread, one per feature; next to nothing if None."""


def match(
    known: NDArray[Any],
    unknown: NDArray[Any],
    caliper: Caliper | None = None,
    *,
    most: int = MAX_MATCHED,
    seed: int = 0,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    r"""Pairs unknown clips with known ones, each at most once, whose features differ by no more than a caliper.

    Caliper matching (Cochran & Rubin 1973) on each feature in units of

    $$\sqrt{(s_\mathrm{known}^2 + s_\mathrm{unknown}^2) / 2},$$

    the standard deviation within the two sides, which does not grow with the distance between them. The default width
    of a quarter is that of Rosenbaum & Rubin (1985). The pairing minimises the sum of squared distances (an assignment
    problem, solved exactly), where a clip without a partner costs as much as a pair that differs by the whole caliper
    in every feature. A pairing with as many pairs as possible would use up the caliper, always in the same direction
    where the sides differ. Clips without a partner are left out; results on the pairs say nothing of these.

    The work grows with the third power of the number of clips: 2000 on each side take a second or two. Of a side with
    more than `most` clips, a random sample of that size is matched. The order of clips matters only for clips with
    equal features.

    Args:
        known: Features of known clips, finite, on a scale where equal differences mean the same, e.g. log-duration.
        unknown: The same features of unknown clips.
        caliper: How far a pair may differ; `Caliper()` if None.
        most: Clips of a side that are matched.
        seed: Seeds the sample.

    Returns:
        The indices of known and of unknown clips, pair by pair, by rising index of the unknown.

    Raises:
        ValueError: Shapes do not fit, or a number is not finite.

    Shape:
        - known: (N, D)
        - unknown: (M, D)
        - caliper.least: (D,)
        - returns: (P,), (P,)
    """
    known, unknown = np.asarray(known, np.float64), np.asarray(unknown, np.float64)
    if known.ndim != 2 or unknown.ndim != 2 or known.shape[1] != unknown.shape[1]:
        raise ValueError(f"features of {known.shape} do not fit those of {unknown.shape}")
    if not (np.isfinite(known).all() and np.isfinite(unknown).all()):
        raise ValueError("a feature is not finite")
    none = np.empty(0, np.intp)
    if not len(known) or not len(unknown):
        return none, none
    spread = np.sqrt((known.var(axis=0) + unknown.var(axis=0)) / 2)
    # where neither side varies, clips that differ by rounding are equal
    caliper = caliper or Caliper()
    scale = np.maximum(caliper.width * spread, 1e-6 if caliper.least is None else np.asarray(caliper.least))
    rng = np.random.default_rng(seed)
    # sorted by their values, so that the order given decides nothing
    rows, columns = (_some(side, most, rng) for side in (known, unknown))
    far = np.zeros((len(rows), len(columns)))
    cost = np.zeros_like(far)
    for feature, unit in enumerate(scale):
        apart = np.abs(known[rows, feature, None] - unknown[columns, feature]) / unit
        np.maximum(far, apart, out=far)
        cost += apart**2
    cost[far > 1] = known.shape[1]

    from scipy.optimize import linear_sum_assignment  # takes most of a second to import

    row, column = linear_sum_assignment(cost)
    kept = far[row, column] <= 1
    matched_known, matched_unknown = rows[row[kept]], columns[column[kept]]
    order = np.argsort(matched_unknown)
    return matched_known[order], matched_unknown[order]


def _some(features: NDArray[np.float64], most: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Returns the indices of at most `most` rows, sorted by their values."""
    order = np.lexsort(features.T)
    if len(order) > most:
        order = order[np.sort(rng.choice(len(order), most, replace=False))]
    return np.asarray(order, np.intp)
