from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.metrics.classification import (
    MIN_PROBABILITY,
    accuracy,
    balanced_accuracy,
    brier,
    confused,
    confusion,
    macro_f1,
    negative_log_likelihood,
)


def test_numbers_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1, 3])
    predicted = np.array([0, 0, 0, 1, 1, 2, -1])
    assert accuracy(predicted, labels) == 4 / 7
    assert balanced_accuracy(predicted, labels) == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 6))
def test_equal_classes_make_both_the_same(seed, classes, each):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(classes).repeat(each))
    predicted = rng.integers(0, classes + 1, len(labels))  # one class that does not occur
    assert balanced_accuracy(predicted, labels) == pytest.approx(accuracy(predicted, labels))


def test_always_the_largest_class():
    labels = np.array([0] * 99 + [1])
    assert accuracy(np.zeros_like(labels), labels) == 0.99
    assert balanced_accuracy(np.zeros_like(labels), labels) == 0.5


@pytest.mark.parametrize("metric", [accuracy, balanced_accuracy, macro_f1])
def test_no_clips_and_shapes_that_do_not_fit(metric):
    assert math.isnan(metric(np.array([], int), np.array([], int)))
    for predicted, labels in ((np.zeros(2), np.zeros(3)), (np.zeros((2, 2)), np.zeros((2, 2)))):
        with pytest.raises(ValueError, match="do not fit"):
            metric(predicted, labels)


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(2, 6))
def test_f1_and_confusion_are_those_of_scikit_learn(seed, clips, classes):
    from sklearn.metrics import confusion_matrix, f1_score

    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, classes, (2, clips))
    assert macro_f1(predicted, labels) == pytest.approx(f1_score(labels, predicted, average="macro"))
    theirs = confusion_matrix(labels, predicted, labels=np.arange(classes))
    assert np.array_equal(confusion(predicted, labels, classes), theirs)


@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(1, 6))
def test_cells_that_are_not_0_are_those_of_the_matrix(seed, clips, classes):
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(-2, classes, clips), rng.integers(-1, classes + 1, clips)
    matrix = np.zeros((classes, classes), int)
    for label, guess in zip(labels, predicted, strict=True):
        if 0 <= label < classes and 0 <= guess < classes:
            matrix[label, guess] += 1
    np.testing.assert_array_equal(confusion(predicted, labels, classes), matrix)
    cells = [[*where, matrix[tuple(where)]] for where in np.argwhere(matrix)]
    assert confused(predicted, labels, classes).tolist() == np.reshape(cells, (-1, 3)).astype(int).tolist()


def test_no_class_is_a_clip_missed_and_an_unknown_class_is_wrong():
    labels, predicted = np.array([0, 0, 1, -2]), np.array([0, -1, 1, 1])
    # class 0: 2·1 / (2 + 1); class 1: 2·1 / (1 + 2); class -2: 0
    assert macro_f1(predicted, labels) == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert accuracy(predicted, labels) == 0.5
    assert confusion(predicted, labels, 2).tolist() == [[1, 0], [0, 1]]


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(2, 6))
def test_likelihood_and_brier_are_those_of_scikit_learn(seed, clips, classes):
    from sklearn.metrics import log_loss

    rng = np.random.default_rng(seed)
    probabilities, labels = rng.dirichlet(np.ones(classes), clips), rng.integers(0, classes, clips)
    log_p = np.log(np.maximum(probabilities, 1e-9))
    theirs = log_loss(labels, np.exp(log_p) / np.exp(log_p).sum(axis=1, keepdims=True), labels=range(classes))
    assert negative_log_likelihood(log_p, labels) == pytest.approx(theirs, rel=1e-6, abs=1e-6)
    loop = [sum((probabilities[n, c] - (labels[n] == c)) ** 2 for c in range(classes)) for n in range(clips)]
    assert brier(log_p, labels) == pytest.approx(np.mean(loop), abs=1e-6)


def test_sure_and_wrong_is_bad_but_finite():
    log_p = np.array([[0.0, -np.inf]])
    assert negative_log_likelihood(log_p, np.array([1])) == pytest.approx(-math.log(MIN_PROBABILITY))
    assert negative_log_likelihood(log_p, np.array([0])) == 0
    assert (brier(log_p, np.array([1])), brier(log_p, np.array([0]))) == (2, 0)


@pytest.mark.parametrize("metric", [negative_log_likelihood, brier])
def test_clips_without_a_column_are_left_out(metric):
    log_p = np.log([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    assert metric(log_p, np.array([0, -2, 2])) == pytest.approx(metric(log_p[:1], np.array([0])))
    assert math.isnan(metric(log_p, np.array([-2, -2, 7])))
    with pytest.raises(ValueError, match="do not fit"):
        metric(log_p, np.array([0]))
