"""Which layers tell classes apart: the layer score of Eq. 12, and accuracy over the number of layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.gram.total import decide, running_totals
from gramcli.metrics.classification import accuracy


def layer_score(
    deviations: NDArray[np.float32],
    labels: NDArray[np.integer],
    ranking: str,
    present: NDArray[np.bool_] | None = None,
) -> float:
    r"""Returns how far the deviations of a class's own clips are from those of all others, at one layer (Eq. 12).

    $$I_l = \frac{1}{|C'|} \sum_{c \in C'}
    W_1\big(\{\delta_{l,c}(x) : c(x) = c\},\; \{\delta_{l,c}(x) : c(x) \ne c\}\big)$$

    over the classes C' that have clips of both kinds. With `ranking` "rank" the δ are first replaced by their ranks
    among all classes and clips of the layer, equal ones sharing their mean rank, scaled to [0, 1]: free of scale and
    tails.

    Args:
        deviations: δ of validation clips, which did not set the bounds.
        labels: True classes; a clip of a class without a column (-1, say) is one of the others everywhere.
        ranking: "rank" or "wasserstein".
        present: Classes that have bounds (all); the columns of others are left out.

    Returns:
        I_l, or NaN if no class has clips of both kinds.

    Raises:
        ValueError: Another ranking, shapes that do not fit, or a deviation that is negative or not finite.

    Shape:
        - deviations: (N, C)
        - labels: (N,)
        - present: (C,)
    """
    if ranking not in ("rank", "wasserstein"):
        raise ValueError(f"ranking is {ranking!r}, not rank or wasserstein")
    clips, classes = deviations.shape
    columns = np.arange(classes) if present is None else np.flatnonzero(present)
    values = np.ascontiguousarray(np.asarray(deviations, np.float32)[:, columns].T)
    if labels.shape != (clips,) or not (np.isfinite(values).all() and (values >= 0).all()):
        raise ValueError(f"finite deviations ≥ 0 and labels of {clips} clips expected")
    sizes = np.bincount(labels[labels >= 0], minlength=classes)[columns]
    qualified = np.flatnonzero((sizes > 0) & (sizes < clips))
    if len(qualified) == 0:
        return float("nan")
    places = _ranks(values) if ranking == "rank" else values
    return float(np.mean([_distance(places[c], labels == columns[c]) for c in qualified]))


def _ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns ranks among all values from 0 to 1, equal values sharing their mean rank; of the shape of `values`."""
    # Bits of numbers ≥ 0 are in their order. With the place below them, one fast sort does what argsort takes long for.
    bits = (values + np.float32(0)).view(np.uint32).ravel().astype(np.uint64)
    packed = np.sort(bits << np.uint64(32) | np.arange(values.size, dtype=np.uint64))
    first = np.flatnonzero(np.diff(packed >> np.uint64(32), prepend=~packed[:1]))
    runs = np.diff(first, append=values.size)
    ranks = np.empty(values.size)
    ranks[packed & np.uint64(2**32 - 1)] = np.repeat((first + (runs - 1) / 2) / max(values.size - 1, 1), runs)
    return ranks.reshape(values.shape)


def _distance(values: NDArray[np.floating], own: NDArray[np.bool_]) -> float:
    """Returns W1 = ∫ |F - G| of own and other values.

    Both distribution functions are steps, so the integral is a sum over the sorted values.
    """
    order = np.argsort(values)
    values, own = values[order].astype(np.float64), own[order]
    there, count = np.cumsum(own)[:-1], int(own.sum())
    apart = np.abs(there / count - (np.arange(1, len(own)) - there) / (len(own) - count))
    return float(apart @ np.diff(values))


def paper_score(negative_means: NDArray[np.floating], counts: NDArray[np.integer]) -> float:
    """Returns Eq. 12 as it stands, on the training clips that set the bounds: the mean deviation of the negatives.

    All positives lie inside their own bounds, δ = 0, and the Wasserstein distance of a distribution of numbers ≥ 0 to a
    point mass at 0 is its mean.

    Args:
        negative_means: Mean δ_{l,c} over training clips of other classes (C,).
        counts: Clips behind each mean (C,); classes with 0 are left out.

    Returns:
        Mean over classes, NaN if none has a clip.
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
    """Returns the accuracy of the first 1, 2, ... L layers; a selection criterion, not an estimate.

    Args:
        deviations: δ layer by layer in ranked order; read one at a time.
        expected: E_l in that order, positive.
        present: Classes that have training clips.
        logits: The network's own, to break ties, or None.
        labels: True classes.

    Raises:
        ValueError: As `running_totals` and `decide`.

    Shape:
        - deviations: L times (N, C)
        - expected: (L,)
        - present: (C,)
        - logits: (N, C)
        - labels: (N,)
        - returns: (L,)
    """
    totals = running_totals(deviations, expected)
    return np.array([accuracy(decide(scores, present, logits).label, labels) for scores in totals])


def how_many(top_k: int | str, accuracy: NDArray[np.float64]) -> int:
    """Returns how many of the ranked layers decide.

    Args:
        top_k: A number, of which there may be fewer; "all"; or "auto" for the largest number of best accuracy, as more
            layers are the broader evidence.
        accuracy: What `curve` returned, (L,).
    """
    layers = len(accuracy)
    if top_k == "auto":
        return layers - int(np.argmax(accuracy[::-1]))
    return layers if top_k == "all" else min(int(top_k), layers)
