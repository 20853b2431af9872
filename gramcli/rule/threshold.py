"""From which score on a sound counts as unknown: an order statistic over groups."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Threshold:
    """A score that known sounds exceed at a stated rate."""

    value: float
    """Scores above it are unknown."""
    false_reject: float
    """Share of groups of known sounds that exceed it, in the mean over calibrations."""
    groups: int
    """Groups it was set on: sources of validation clips, or files of `folder`."""
    low: float
    """With probability 0.9 the true rate is between this and `high`."""
    high: float
    folder: str | None = None
    """Folder whose recordings it was set on; None for the validation clips."""

    @property
    def source(self) -> str:
        """What it was set on, in words."""
        return "validation groups" if self.folder is None else f"files of {self.folder}"

    @property
    def origin(self) -> str:
        """What it was set on, and how many of it, in words."""
        return f"{self.groups} {self.source}"

    @property
    def promise(self) -> str:
        """What it rejects and how sure that is, in words."""
        whose = "known recordings" if self.folder is None else "recordings like those it was set on"
        return (
            f"rejects {100 * self.false_reject:.3g}% of {whose} "
            f"(90 % range {self.low:.1%} to {self.high:.1%}, from {self.origin})"
        )


def least_groups(false_reject: float) -> int:
    """Returns the fewest groups that can set a threshold at a rate between 0 and 1: n of n >= 1/α - 1, at least 1."""
    # what rounding adds to a whole number must not raise it to the next
    return max(1, math.ceil(1 / false_reject - 1 - 1e-9))


def threshold(scores: NDArray[Any], groups: NDArray[Any], false_reject: float) -> Threshold:
    r"""Returns the ⌈(n+1)(1-α)⌉-th smallest score of n groups.

    A group's score is its largest, as clips of one recording are unlike together. If groups are exchangeable, the share
    of new ones above the k-th smallest of n follows Beta(n + 1 - k, k), whatever their distribution.

    Args:
        scores: Higher is less like anything known; of clips that nothing was fitted on.
        groups: Source of each clip.
        false_reject: α, between 0 and 1.

    Raises:
        ValueError: α is no rate, or there are too few groups for it (n < 1/α - 1).

    Shape:
        - scores, groups: (N,)
    """
    if not 0 < false_reject < 1:
        raise ValueError(f"a false-reject rate is between 0 and 1, not {false_reject:g}")
    group_of = np.unique(groups, return_inverse=True)[1]
    largest = np.full(int(group_of.max(initial=-1)) + 1, -np.inf)
    np.maximum.at(largest, group_of, np.asarray(scores, np.float64))
    n = len(largest)
    # what rounding adds to a whole number must not raise it to the next
    rank = math.ceil((n + 1) * (1 - false_reject) - 1e-9)
    if not 1 <= rank <= n:
        least = least_groups(false_reject)
        raise ValueError(f"a false-reject rate of {false_reject:g} takes {least} groups, and there are {n}")

    from scipy.stats import beta  # takes most of a second to import

    low, high = beta.ppf([0.05, 0.95], n + 1 - rank, rank)
    return Threshold(float(np.sort(largest)[rank - 1]), false_reject, n, float(low), float(high))
