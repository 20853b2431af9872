"""Accuracy, macro F1 and confusion of predicted classes; log-likelihood and Brier score of probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def accuracy(predicted: NDArray[Any], labels: NDArray[Any]) -> float:
    """Returns the share of clips that are classified correctly; NaN without clips.

    Raises:
        ValueError: Numbers of clips differ.

    Shape:
        - predicted, labels: (N,)
    """
    right = _right(predicted, labels)
    return float(right.mean()) if len(right) else float("nan")


def balanced_accuracy(predicted: NDArray[Any], labels: NDArray[Any]) -> float:
    """Returns the mean recall over the classes that occur in `labels`; NaN without clips.

    Raises:
        ValueError: Numbers of clips differ.

    Shape:
        - predicted, labels: (N,)
    """
    right = _right(predicted, labels)
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    return float(np.mean(recalls)) if recalls else float("nan")


def macro_f1(predicted: NDArray[Any], labels: NDArray[Any]) -> float:
    """Returns the mean of F1 = 2·TP / (2·TP + FP + FN) over the classes that are true or predicted; NaN without clips.

    A prediction of -1 is no class: it counts as a false negative of the clip's class, and as no false positive.

    Raises:
        ValueError: Numbers of clips differ.

    Shape:
        - predicted, labels: (N,)
    """
    right = _right(predicted, labels)
    classes = np.union1d(labels, predicted[predicted != -1])
    scores = [
        2 * right[labels == one].sum() / ((labels == one).sum() + (predicted == one).sum()) for one in classes.tolist()
    ]
    return float(np.mean(scores)) if scores else float("nan")


def confusion(predicted: NDArray[np.integer], labels: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Returns how many clips of each true class (row) were predicted as each class (column).

    Clips with a label or a prediction outside 0 to C - 1 are in no cell.

    Raises:
        ValueError: Numbers of clips differ.

    Shape:
        - predicted, labels: (N,)
        - returns: (C, C)
    """
    _right(predicted, labels)
    table = np.zeros((classes, classes), np.int64)
    cell = (labels >= 0) & (labels < classes) & (predicted >= 0) & (predicted < classes)
    np.add.at(table, (labels[cell], predicted[cell]), 1)
    return table


MIN_PROBABILITY = 1e-12
"""Lower bound of a probability, so that one clip whose class got probability 0 does not make the mean infinite."""


def negative_log_likelihood(log_probabilities: NDArray[Any], labels: NDArray[np.integer]) -> float:
    """Returns the mean of -log p of the true class, in nats; clips of a class without a column are left out.

    Shape:
        - log_probabilities: (N, C)
        - labels: (N,)
    """
    clips = _with_column(log_probabilities, labels)
    own = log_probabilities[clips, labels[clips]]
    return float(-np.maximum(own, np.log(MIN_PROBABILITY)).mean()) if len(clips) else float("nan")


def brier(log_probabilities: NDArray[Any], labels: NDArray[np.integer]) -> float:
    """Returns the mean over clips of Σ_c (p_c - 1[c true])², 0 to 2; clips of a class without a column are left out.

    Shape:
        - log_probabilities: (N, C)
        - labels: (N,)
    """
    clips = _with_column(log_probabilities, labels)
    wrong = np.exp(np.asarray(log_probabilities[clips], np.float64))
    wrong[np.arange(len(clips)), labels[clips]] -= 1
    return float((wrong**2).sum(axis=1).mean()) if len(clips) else float("nan")


def _with_column(log_probabilities: NDArray[Any], labels: NDArray[np.integer]) -> NDArray[np.intp]:
    if log_probabilities.shape[:1] != labels.shape:
        raise ValueError(f"probabilities of {log_probabilities.shape} do not fit labels of {labels.shape}")
    return np.flatnonzero((labels >= 0) & (labels < log_probabilities.shape[1]))


def _right(predicted: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.bool_]:
    if predicted.shape != labels.shape or labels.ndim != 1:
        raise ValueError(f"predictions of {predicted.shape} do not fit labels of {labels.shape}")
    return np.asarray(predicted == labels)
