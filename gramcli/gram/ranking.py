"""Layer ranking: how well each layer separates the classes (Eq. 12), and the accuracy of the first k layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.gram.total import decide, running_totals


def layer_score(
    deviations: NDArray[np.float32],
    labels: NDArray[np.integer],
    ranking: str,
    present: NDArray[np.bool_] | None = None,
) -> float:
    r"""Returns how well one layer separates the clips of each class from all other clips (Eq. 12).

    $$I_l = \frac{1}{|C'|} \sum_{c \in C'}
    W_1\big(\{\delta_{l,c}(x) : c(x) = c\},\; \{\delta_{l,c}(x) : c(x) \ne c\}\big)$$

    where C' are the classes with clips of both kinds. With `ranking` "rank", each δ is first replaced by its rank among
    all classes and clips of the layer, scaled to [0, 1]. Equal values share their mean rank. Ranks do not depend on the
    scale of a layer, and a few very large values do not dominate them.

    Args:
        deviations: δ of validation clips, on which the bounds do not depend.
        labels: True classes. A clip whose class has no column may have the label -1; it is an "other" clip everywhere.
        ranking: "rank" or "wasserstein".
        present: Classes that have bounds; all if None. The columns of other classes are left out.

    Returns:
        I_l; NaN if no class has clips of both kinds.

    Raises:
        ValueError: The ranking is unknown, shapes do not fit, or a deviation is negative or not finite.

    Shape:
        - deviations: (N, C)
        - labels: (N,)
        - present: (C,)
    """
    if ranking not in ("rank", "wasserstein"):
        raise ValueError(f"ranking must be rank or wasserstein, not {ranking!r}")
    clips, classes = deviations.shape
    columns = np.arange(classes) if present is None else np.flatnonzero(present)
    values = np.asarray(deviations, np.float32)
    values = values if len(columns) == classes else values[:, columns]
    if labels.shape != (clips,) or not (np.isfinite(values).all() and (values >= 0).all()):
        raise ValueError(f"expected finite deviations ≥ 0 and labels of {clips} clips")
    sizes = np.bincount(labels[labels >= 0], minlength=classes)[columns]
    qualified = np.flatnonzero((sizes > 0) & (sizes < clips))
    if len(qualified) == 0:
        return float("nan")
    pool = _pool(values) if ranking == "rank" else None
    return float(np.mean([_wasserstein(values[:, c], labels == columns[c], pool) for c in qualified]))


def _pool(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Returns all values in ascending order, as their bits: those of floats ≥ 0, read as whole numbers, sort alike.

    Sorting whole numbers is faster, and nothing but one copy of the values is in memory.
    """
    pool = _bits(values.reshape(-1))
    pool.sort()
    return pool


def _bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    return (values + np.float32(0)).view(np.uint32)  # -0 becomes 0


def _ranks(values: NDArray[np.float32], pool: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Returns the rank of some values in the pool, from 0 to 1. Equal values share their mean rank.

    Args:
        values: Values of the pool. The search is faster if they are sorted.
        pool: All values; see `_pool`.
    """
    bits = _bits(values)
    first, stop = np.searchsorted(pool, bits), np.searchsorted(pool, bits, "right")
    ranks: NDArray[np.float64] = (first + (stop - first - 1) / 2) / max(len(pool) - 1, 1)
    return ranks


def _wasserstein(values: NDArray[np.float32], own: NDArray[np.bool_], pool: NDArray[np.uint32] | None = None) -> float:
    """Returns W1 = ∫ |F - G|, with F and G the distribution functions of a class's own and of all other values.

    Both are step functions, so the integral is a sum over the sorted values. If there is a pool, the values are
    replaced by their ranks in it.
    """
    order = np.argsort(values)
    ordered, own = values[order], own[order]
    points = ordered.astype(np.float64) if pool is None else _ranks(ordered, pool)
    own_below, count = np.cumsum(own)[:-1], int(own.sum())
    difference = np.abs(own_below / count - (np.arange(1, len(own)) - own_below) / (len(own) - count))
    return float(difference @ np.diff(points))


def paper_score(negative_means: NDArray[np.floating], counts: NDArray[np.integer]) -> float:
    """Returns Eq. 12 as the paper has it, on the training clips that set the bounds.

    All clips of a class lie inside its bounds, so their δ is 0. The Wasserstein distance between numbers ≥ 0 and a
    point mass at 0 is their mean. So the score is the mean deviation of the negatives, the clips of other classes.

    Args:
        negative_means: Mean δ_{l,c} over training clips of other classes (C,).
        counts: Number of clips in each mean, (C,). Classes with 0 are left out.

    Returns:
        The mean over classes; NaN if all counts are 0.
    """
    counted = negative_means[counts > 0]
    return float(np.mean(counted)) if len(counted) else float("nan")


def curve(
    deviations: Iterable[NDArray[np.float32]],
    expected: NDArray[np.floating],
    present: NDArray[np.bool_],
    logits: NDArray[Any] | None,
    labels: NDArray[np.integer],
) -> NDArray[np.float64]:
    """Returns the accuracy of the smallest Δ̄ over the first 1, 2, ... L layers.

    It is computed on the clips that select k, so it is no estimate of the accuracy on new clips.

    Args:
        deviations: δ of each layer in ranked order. One layer is in memory at a time.
        expected: E_l in that order, positive.
        present: Classes that have training clips.
        logits: Outputs of the network, to break ties; None if its outputs are not the classes.
        labels: True classes.

    Raises:
        ValueError: See `running_totals` and `decide`.

    Shape:
        - deviations: L times (N, C)
        - expected: (L,)
        - present: (C,)
        - logits: (N, C)
        - labels: (N,)
        - returns: (L,)
    """
    return correct(deviations, expected, present, logits, labels) / len(labels)


def correct(
    deviations: Iterable[NDArray[np.float32]],
    expected: NDArray[np.floating],
    present: NDArray[np.bool_],
    logits: NDArray[Any] | None,
    labels: NDArray[np.integer],
) -> NDArray[np.int64]:
    """Returns how many clips the smallest Δ̄ over the first 1, 2, ... layers classifies correctly, (L,); see `curve`."""
    totals = running_totals(deviations, expected)
    return np.array([np.count_nonzero(decide(scores, present, logits).label == labels) for scores in totals], np.int64)


def how_many(top_k: int | str, accuracy: NDArray[np.float64]) -> int:
    """Returns k, the number of ranked layers that make up Δ̄.

    Args:
        top_k: A number (all layers if there are fewer), "all", or "auto". The value "auto" chooses the k of the best
            accuracy, and the largest of several, since more layers give broader evidence.
        accuracy: Accuracy of the first 1, 2, ... L layers, as `curve` returns it, (L,).
    """
    layers = len(accuracy)
    if top_k == "auto":
        return layers - int(np.argmax(accuracy[::-1]))
    return layers if top_k == "all" else min(int(top_k), layers)
