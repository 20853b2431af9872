from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.rule.threshold import Threshold, least_groups, threshold


def test_eighty_groups_at_five_percent():
    found = threshold(np.arange(80.0), np.arange(80), 0.05)
    assert found.value == 76  # the 77th smallest
    assert (round(100 * found.low, 1), round(100 * found.high, 1)) == (1.7, 9.4)


def test_the_score_of_a_group_is_its_largest():
    scores, groups = np.array([1.0, 9, 2, 3, 4, 5]), np.array(list("aabbcd"))
    assert threshold(scores, groups, 0.2).value == 9
    assert threshold(scores, groups, 0.4).value == 5


@given(st.integers(1, 60), st.integers(1, 40))
def test_least_groups(groups, percent):
    rate = percent / 100
    least = next(n for n in range(1, 200) if (n + 1) * percent >= 100)
    assert least_groups(rate) == least
    if groups < least:
        with pytest.raises(ValueError, match=f"takes {least} groups, and there are {groups}"):
            threshold(np.arange(float(groups)), np.arange(groups), rate)
    else:
        found = threshold(np.arange(float(groups)), np.arange(groups), rate)
        # in exact arithmetic: the smallest rank of at least (n + 1) (1 - α)
        assert found.value == -(-(groups + 1) * (100 - percent) // 100) - 1
        assert found.low < found.high


def test_the_true_rate_is_the_stated_one():
    rng = np.random.default_rng(4)
    n, rate, inside, rates = 40, 0.1, 0, []
    for _ in range(2000):
        found = threshold(rng.random(n), np.arange(n), rate)
        rates.append(1 - found.value)  # of uniform scores, the share above it
        inside += found.low <= rates[-1] <= found.high
    assert np.mean(rates) == pytest.approx(np.ceil(n * rate - rate) / (n + 1), abs=0.005)
    assert inside / 2000 == pytest.approx(0.9, abs=0.025)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 2, float("nan")])
def test_rates_outside_0_to_1_are_refused(rate):
    with pytest.raises(ValueError, match="false-reject rate must be between"):
        threshold(np.ones(50), np.arange(50), rate)


def test_no_clips():
    with pytest.raises(ValueError, match="there are 0"):
        threshold(np.array([]), np.array([]), 0.05)


def test_in_words():
    validation = Threshold(0.4, 0.05, 61, 0.0136, 0.0997)
    assert validation.promise == "rejects 5% of known recordings (90 % range 1.4% to 10.0%, from 61 validation groups)"
    at_site = Threshold(0.4, 0.125, 40, 0.0136, 0.0997, "a/b")
    assert at_site.origin == "40 files of a/b"
    assert at_site.promise.startswith("rejects 12.5% of recordings like those it was set on (")
