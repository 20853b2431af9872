"""The oracle itself, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests import reference


def test_a_clip_by_hand():
    maps = np.array([[1.0, 2.0], [0.0, 1.0], [3.0, 0.0]])
    assert reference.gram_matrix(maps).tolist() == [[5, 2, 3], [2, 1, 0], [3, 0, 9]]
    assert reference.row_sums(maps) == [10, 3, 12]
    assert reference.descriptor(maps) == [7 / 9, 0, 1]


def test_deviation_by_hand():
    assert reference.channel_deviation(0.4, 0.5, 0.45, 0.05) == 0
    assert reference.channel_deviation(0.4, 0.5, 0.1, 0.05) == pytest.approx(0.75)
    assert reference.channel_deviation(0.4, 0.5, 1.0, 0.05) == pytest.approx(1.0)
    assert reference.channel_deviation(0.0, 0.0, 0.5, 0.05) == pytest.approx(10)
    assert reference.layer_deviation([0.1, 1.0], ([0.4, 0.4], [0.5, 0.5]), 0.05) == pytest.approx(1.75)


def test_wasserstein_by_hand():
    assert reference.wasserstein([0, 0], [1, 3]) == 2
    assert reference.wasserstein([0, 1, 3], [5, 6, 8]) == 5
    assert reference.wasserstein([2], [2]) == 0


def test_ranks_by_hand():
    assert reference.pooled_ranks([[5, 1], [5, 9]]) == [[0.5, 0], [0.5, 1]]


def test_total_and_decision_by_hand():
    assert reference.total([2, 9, 3], [1, 0, 2]) == pytest.approx(1.75)
    assert reference.decide([2, 1, 3]) == (1, 0)
    assert reference.decide([1, 1, 1], [0, 5, 2]) == (1, 2)
    assert reference.decide([math.nan, 1, math.nan]) == (1, -1)


def test_calibration_by_hand():
    # One position: row sums are f·Σf, so g̃ of the channels (x, 0, 1) is (x, 0, 1).
    def clip(x: float) -> list[np.ndarray]:
        return [np.array([[x], [0.0], [1.0]])]

    statistics = reference.calibrate(
        [clip(0.25), clip(0.5), clip(0.75), clip(0.875)], [0, 0, 1, 1], [clip(0.625), clip(0.8125)], [0, 1], 2, 0.05
    )
    assert statistics.bounds == [[([0.25, 0, 1], [0.5, 0, 1]), ([0.75, 0, 1], [0.875, 0, 1])]]
    # Validation deviations are (1/4, 1/6) and (5/8, 0), their ranks (2, 1) and (3, 0).
    assert statistics.expected == [0.125]
    assert statistics.scores["wasserstein"] == [pytest.approx((3 / 8 + 1 / 6) / 2)]
    assert statistics.scores["rank"] == [pytest.approx(1 / 3)]
    # Negatives lie at 1/2 and 3/4 above class 0, at 2/3 and 1/3 below class 1.
    assert statistics.scores["paper"] == [pytest.approx((5 / 8 + 1 / 2) / 2)]
    assert statistics.totals(clip(0.375)) == [0, 4]


def test_a_class_without_training_clips_is_never_chosen():
    clips = [[np.array([[1.0], [2.0], [x]])] for x in (4.0, 5.0)]
    statistics = reference.calibrate([clips[0]], [1], clips, [1, 1], 3, 0.05)
    assert [own is None for own in statistics.bounds[0]] == [True, False, True]
    assert reference.decide(statistics.totals(clips[1])) == (1, -1)
