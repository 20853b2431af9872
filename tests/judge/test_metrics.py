from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.judge.metrics import accuracy, balanced_accuracy


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


@pytest.mark.parametrize("metric", [accuracy, balanced_accuracy])
def test_no_clips_and_shapes_that_do_not_fit(metric):
    assert math.isnan(metric(np.array([], int), np.array([], int)))
    for predicted, labels in ((np.zeros(2), np.zeros(3)), (np.zeros((2, 2)), np.zeros((2, 2)))):
        with pytest.raises(ValueError, match="do not fit"):
            metric(predicted, labels)
