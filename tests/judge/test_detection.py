from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.judge.detection import aupr, auroc, fpr_at_tpr

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
        with pytest.raises(ValueError, match="one score a clip"):
            measure(wrong, some)
        with pytest.raises(ValueError, match="one score a clip"):
            measure(some, wrong)


@pytest.mark.parametrize("tpr", [0, -0.1, 1.1, math.nan])
def test_what_is_no_rate(tpr):
    with pytest.raises(ValueError, match="a rate of accepted clips"):
        fpr_at_tpr(np.ones(3), np.ones(3), tpr)
