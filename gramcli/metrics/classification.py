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
    class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    return float(np.mean(np.bincount(class_of, right) / counts)) if len(counts) else float("nan")


def macro_f1(predicted: NDArray[Any], labels: NDArray[Any]) -> float:
    """Returns the mean of F1 = 2·TP / (2·TP + FP + FN) over the classes that are true or predicted; NaN without clips.

    A prediction of -1 is no class: it counts as a false negative of the clip's class, and as no false positive.

    Raises:
        ValueError: Numbers of clips differ.

    Shape:
        - predicted, labels: (N,)
    """
    right = _right(predicted, labels)
    chosen = predicted[predicted != -1]
    class_of = np.unique(np.concatenate([labels, chosen]), return_inverse=True)[1]
    hits = np.bincount(class_of[: len(labels)], right, minlength=int(class_of.max(initial=-1)) + 1)
    return float(np.mean(2 * hits / np.bincount(class_of))) if len(class_of) else float("nan")


def confusion(predicted: NDArray[np.integer], labels: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Returns how many clips of each true class (row) were predicted as each class (column).

    Clips with a label or a prediction outside 0 to C - 1 are in no cell.

    Raises:
        ValueError: Numbers of clips differ.

    Shape:
        - predicted, labels: (N,)
        - returns: (C, C)
    """
    table = np.zeros((classes, classes), np.int64)
    pairs = confused(predicted, labels, classes)
    table[pairs[:, 0], pairs[:, 1]] = pairs[:, 2]
    return table


def confused(predicted: NDArray[np.integer], labels: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Returns the cells of the confusion matrix that are not 0, as true class, predicted class and number of clips.

    With many classes, the matrix would have far more cells than there are clips.

    Raises:
        ValueError: Numbers of clips differ.

    Shape:
        - predicted, labels: (N,)
        - returns: (P, 3), ascending
    """
    _right(predicted, labels)
    cell = (labels >= 0) & (labels < classes) & (predicted >= 0) & (predicted < classes)
    pairs, counts = np.unique(np.stack([labels[cell], predicted[cell]], axis=1), axis=0, return_counts=True)
    return np.column_stack([pairs, counts]).astype(np.int64)


MIN_PROBABILITY = 1e-12
"""Lower bound of a probability, so that one clip whose class got probability 0 does not make the mean infinite."""


def negative_log_likelihood(log_probabilities: NDArray[Any], labels: NDArray[np.integer]) -> float:
    """Returns the mean of -log p of the true class, in nats; clips of a class without a column are left out.

    Shape:
        - log_probabilities: (N, C)
        - labels: (N,)
    """
    return mean(surprise(log_probabilities, labels))


def brier(log_probabilities: NDArray[Any], labels: NDArray[np.integer]) -> float:
    """Returns the mean over clips of Σ_c (p_c - 1[c true])², 0 to 2; clips of a class without a column are left out.

    Shape:
        - log_probabilities: (N, C)
        - labels: (N,)
    """
    return mean(squared_error(log_probabilities, labels))


def surprise(log_probabilities: NDArray[Any], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Returns -log p of each clip's true class, in nats; NaN for a class without a column.

    Shape:
        - log_probabilities: (N, C)
        - labels, returns: (N,)
    """
    clips, result = _with_column(log_probabilities, labels), np.full(len(labels), np.nan)
    result[clips] = -np.maximum(log_probabilities[clips, labels[clips]], np.log(MIN_PROBABILITY))
    return result


def squared_error(log_probabilities: NDArray[Any], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Returns Σ_c (p_c - 1[c true])² of each clip; NaN for a class without a column.

    Shape:
        - log_probabilities: (N, C)
        - labels, returns: (N,)
    """
    clips, result = _with_column(log_probabilities, labels), np.full(len(labels), np.nan)
    wrong = np.exp(np.asarray(log_probabilities[clips], np.float64))
    wrong[np.arange(len(clips)), labels[clips]] -= 1
    result[clips] = (wrong**2).sum(axis=1)
    return result


def mean(values: NDArray[np.float64]) -> float:
    """Returns the mean of numbers that are not NaN; NaN if there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _with_column(log_probabilities: NDArray[Any], labels: NDArray[np.integer]) -> NDArray[np.intp]:
    if log_probabilities.shape[:1] != labels.shape:
        raise ValueError(f"probabilities of {log_probabilities.shape} do not fit labels of {labels.shape}")
    return np.flatnonzero((labels >= 0) & (labels < log_probabilities.shape[1]))


def _right(predicted: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.bool_]:
    if predicted.shape != labels.shape or labels.ndim != 1:
        raise ValueError(f"predictions of {predicted.shape} do not fit labels of {labels.shape}")
    return np.asarray(predicted == labels)
