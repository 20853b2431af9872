from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.metrics.intervals import MIN_GROUPS, proportion
from gramcli.metrics.ood import GroupedScores, aupr, auroc, auroc_interval, fpr_at_tpr

metrics = pytest.importorskip("sklearn.metrics")

MEASURES = [auroc, aupr, fpr_at_tpr]
# few different values, so that ties are common
TIED = st.lists(st.integers(-3, 3), min_size=1, max_size=30).map(lambda drawn: np.array(drawn, float))


def _joined(known, unknown):
    return np.concatenate([known, unknown]), np.array([0] * len(known) + [1] * len(unknown))


@given(TIED, TIED)
def test_against_scikit_learn(known, unknown):
    scores, is_unknown = _joined(known, unknown)
    assert auroc(known, unknown) == pytest.approx(metrics.roc_auc_score(is_unknown, scores))
    assert aupr(known, unknown) == pytest.approx(metrics.average_precision_score(is_unknown, scores))
    accepted, right, _ = metrics.roc_curve(1 - is_unknown, -scores, drop_intermediate=False)
    for tpr in (0.95, 0.5, 1.0):
        expected = accepted[np.flatnonzero(right >= tpr - 1e-9)[0]]
        assert fpr_at_tpr(known, unknown, tpr) == pytest.approx(expected)


@given(TIED, TIED)
def test_against_loops(known, unknown):
    pairs = [1.0 if u > k else 0.5 if u == k else 0.0 for k, u in product(known, unknown)]
    assert auroc(known, unknown) == pytest.approx(sum(pairs) / len(pairs))
    threshold = next(t for t in sorted(known) if sum(k <= t for k in known) / len(known) >= 0.95 - 1e-12)
    assert fpr_at_tpr(known, unknown) == pytest.approx(sum(u <= threshold for u in unknown) / len(unknown))
    precisions = []
    for one in unknown:  # the precision at every unknown clip's own score
        right, wrong = sum(u >= one for u in unknown), sum(k >= one for k in known)
        precisions.append(right / (right + wrong))
    assert aupr(known, unknown) == pytest.approx(sum(precisions) / len(precisions))


def test_apart_level_and_the_wrong_way():
    low, high = np.arange(20.0), np.arange(20.0, 30.0)
    assert (auroc(low, high), aupr(low, high), fpr_at_tpr(low, high)) == (1, 1, 0)
    assert (auroc(high, low), fpr_at_tpr(high, low)) == (0, 1)
    level = np.zeros(20), np.zeros(10)
    assert (auroc(*level), aupr(*level), fpr_at_tpr(*level)) == (0.5, pytest.approx(1 / 3), 1)


def test_five_of_a_hundred_known_clips_lie_beyond_the_threshold():
    known = np.arange(100.0)
    assert fpr_at_tpr(known, np.array([94.0, 94.5])) == 0.5
    assert fpr_at_tpr(known, np.array([94.0, 94.5]), 0.96) == 1


@given(TIED, TIED)
def test_only_the_order_counts(known, unknown):
    for measure in MEASURES:
        assert measure(known, unknown) == measure(np.exp(known) - 7, np.exp(unknown) - 7)
    assert auroc(known, unknown) == pytest.approx(1 - auroc(unknown, known))


@pytest.mark.parametrize("measure", MEASURES)
def test_endless_scores_are_scores(measure):
    known, unknown = np.array([-np.inf, 0, 1]), np.array([0.5, np.inf])
    assert measure(known, unknown) == measure(np.array([-9.0, 0, 1]), np.array([0.5, 9]))


@pytest.mark.parametrize("measure", MEASURES)
def test_without_clips_and_what_is_no_score(measure):
    some, none = np.ones(3), np.array([])
    assert math.isnan(measure(some, none))
    assert math.isnan(measure(none, some))
    for wrong in (np.array([1.0, np.nan]), np.ones((2, 2))):
        with pytest.raises(ValueError, match="one score per clip"):
            measure(wrong, some)
        with pytest.raises(ValueError, match="one score per clip"):
            measure(some, wrong)


@pytest.mark.parametrize("tpr", [0, -0.1, 1.1, math.nan])
def test_what_is_no_rate(tpr):
    with pytest.raises(ValueError, match="a rate of accepted clips"):
        fpr_at_tpr(np.ones(3), np.ones(3), tpr)


# --- the interval of the area


def interval(known, unknown, **how):
    """The interval of scores and groups of either side."""
    return auroc_interval(GroupedScores(*known), GroupedScores(*unknown), **how)


def grouped(rng, groups, shift):
    """Scores whose groups have a part in common, sizes unequal, and their groups."""
    group_of = np.repeat(np.arange(groups), 1 + rng.geometric(0.5, groups))
    return shift + rng.normal(size=groups)[group_of] + rng.normal(size=len(group_of)), group_of


def coverage(known, unknown, trials, resamples):
    """How often the interval holds the truth: scores of both sides are normal with variance 2, one a unit higher."""
    truth = 0.5 * math.erfc(-0.5 / math.sqrt(2))
    held = 0
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        (a, of_a), (b, of_b) = grouped(rng, known, 0), grouped(rng, unknown, 1)
        low, high = interval((a, of_a), (b, of_b), resamples=resamples, seed=trial)
        held += low <= truth <= high
    return held / trials


def test_coverage():
    assert coverage(40, 12, trials=150, resamples=300) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("known", "unknown"), [(10, 10), (60, 10), (20, 20), (60, 60)])
def test_coverage_at_length(known, unknown):
    assert 0.92 <= coverage(known, unknown, trials=1000, resamples=500) <= 0.985


def test_the_interval_is_that_of_a_slow_bootstrap():
    from scipy.stats import norm, t

    rng = np.random.default_rng(4)
    (known, of), (unknown, by) = grouped(rng, 15, 0), grouped(rng, 12, 1)
    areas = []
    for _ in range(3000):
        ours = np.concatenate([known[of == one] for one in rng.integers(15, size=15)])
        theirs = np.concatenate([unknown[by == one] for one in rng.integers(12, size=12)])
        areas.append(np.mean(ours[:, None] < theirs))  # no two are equal
    tail = norm.cdf(math.sqrt(12 / 11) * t.ppf(0.025, 11))
    found = interval((known, of), (unknown, by))
    assert found == pytest.approx(np.quantile(areas, [tail, 1 - tail]), abs=0.03)
    assert found[0] < auroc(known, unknown) < found[1]


def test_order_and_names_of_groups_do_not_matter():
    rng = np.random.default_rng(1)
    (known, of), (unknown, by) = grouped(rng, 20, 0), grouped(rng, 20, 1)
    order = rng.permutation(len(known))
    named = np.array([f"take {one:02}" for one in of])
    assert interval((known[order], named[order]), (unknown, by)) == interval((known, of), (unknown, by))


def test_the_more_clips_of_a_group_the_wider():
    rng = np.random.default_rng(2)
    known, unknown, each = rng.normal(size=20), rng.normal(1, 1, size=20), np.arange(20)
    one = interval((known, each), (unknown, each))
    copied = interval((known.repeat(9), each.repeat(9)), (unknown.repeat(9), each.repeat(9)))
    assert copied == pytest.approx(one)


def test_all_apart_is_not_certain():
    each = np.arange(12)
    assert interval((np.zeros(12), each), (np.ones(12), each)) == (proportion(12, 12)[0], 1)
    assert interval((np.ones(12), each), (np.zeros(12), each)) == (0, proportion(0, 12)[1])
    level = interval((np.zeros(12), each), (np.zeros(12), each))
    assert level == (0.5, 0.5)


def test_too_few_groups_have_no_interval():
    few, enough = np.arange(MIN_GROUPS - 1), np.arange(MIN_GROUPS)
    assert interval((few * 1.0, few), (enough * 1.0, enough)) is None
    assert interval((enough * 1.0, enough), (few * 1.0, few)) is None
    assert interval((enough * 1.0, enough), (np.ones(0), np.ones(0))) is None
    with pytest.raises(ValueError, match="one group per clip"):
        interval((enough * 1.0, enough), (enough * 1.0, few))
