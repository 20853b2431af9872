"""How often a decision is right."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def accuracy(predicted: NDArray[Any], labels: NDArray[Any]) -> float:
    """Returns the share of clips whose predicted class is the true one; NaN without clips.

    Raises:
        ValueError: Numbers of clips differ.

    Shape:
        - predicted, labels: (N,)
    """
    right = _right(predicted, labels)
    return float(right.mean()) if len(right) else float("nan")


def balanced_accuracy(predicted: NDArray[Any], labels: NDArray[Any]) -> float:
    """Returns the mean over the true classes that occur of the share of their clips found; NaN without clips.

    Raises:
        ValueError: Numbers of clips differ.

    Shape:
        - predicted, labels: (N,)
    """
    right = _right(predicted, labels)
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    return float(np.mean(recalls)) if recalls else float("nan")


def _right(predicted: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.bool_]:
    if predicted.shape != labels.shape or labels.ndim != 1:
        raise ValueError(f"predictions of {predicted.shape} do not fit labels of {labels.shape}")
    return np.asarray(predicted == labels)
