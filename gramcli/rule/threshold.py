"""The threshold of unknown sounds: a strangeness that known sounds exceed at a stated rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Threshold:
    """A threshold, and how often known sounds exceed it."""

    value: float
    """Clips with a larger score count as unknown."""
    false_reject: float
    """Expected rate of groups of known sounds that exceed it, α."""
    groups: int
    """Number of groups it was set on: groups of validation clips, or files of `folder`."""
    low: float
    """With probability 0.9 the true rate is between `low` and `high`."""
    high: float
    folder: str | None = None
    """Folder of the recordings that it was set on; None if it was set on validation clips."""

    @property
    def source(self) -> str:
        """The data that it was set on, in words."""
        return "validation groups" if self.folder is None else f"files of {self.folder}"

    @property
    def origin(self) -> str:
        """The data that it was set on with its number of groups, in words."""
        return f"{self.groups} {self.source}"

    @property
    def promise(self) -> str:
        """The rate at which it rejects known sounds, in words."""
        rejected = "known recordings" if self.folder is None else "recordings like those it was set on"
        return (
            f"rejects {100 * self.false_reject:.3g}% of {rejected} "
            f"(90 % range {self.low:.1%} to {self.high:.1%}, from {self.origin})"
        )


def least_groups(false_reject: float) -> int:
    """Returns the smallest number of groups that allows a threshold at a rate α: n >= 1/α - 1, at least 1."""
    # a rounding error above a whole number must not give the next one
    return max(1, math.ceil(1 / false_reject - 1 - 1e-9))


def threshold(scores: NDArray[Any], groups: NDArray[Any], false_reject: float) -> Threshold:
    r"""Sets the threshold to the ⌈(n+1)(1-α)⌉-th smallest score of n groups.

    The score of a group is the largest score of its clips, because clips of one recording are not independent. If
    groups are exchangeable, the rate of new groups above the k-th smallest of n has the distribution
    Beta(n + 1 - k, k), for any distribution of scores.

    Args:
        scores: Strangeness of clips that the rule was not fitted on.
        groups: Group of each clip.
        false_reject: α, between 0 and 1.

    Raises:
        ValueError: α is not between 0 and 1, or there are too few groups for it (n < 1/α - 1).

    Shape:
        - scores, groups: (N,)
    """
    if not 0 < false_reject < 1:
        raise ValueError(f"a false-reject rate must be between 0 and 1, not {false_reject:g}")
    group_of = np.unique(groups, return_inverse=True)[1]
    largest = np.full(int(group_of.max(initial=-1)) + 1, -np.inf)
    np.maximum.at(largest, group_of, np.asarray(scores, np.float64))
    n = len(largest)
    # a rounding error above a whole number must not give the next one
    rank = math.ceil((n + 1) * (1 - false_reject) - 1e-9)
    if not 1 <= rank <= n:
        least = least_groups(false_reject)
        raise ValueError(f"a false-reject rate of {false_reject:g} takes {least} groups, and there are {n}")

    from scipy.stats import beta  # takes most of a second to import

    low, high = beta.ppf([0.05, 0.95], n + 1 - rank, rank)
    return Threshold(float(np.sort(largest)[rank - 1]), false_reject, n, float(low), float(high))
