from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.gram.bounds import Bounds
from gramcli.gram.deviation import deviations
from gramcli.gram.exact_mean import ExactMean
from gramcli.gram.ranking import curve, layer_score, paper_score
from gramcli.gram.total import decide, total
from tests import reference

RANKINGS = ["rank", "wasserstein"]


@st.composite
def tables(draw):
    """Draws δ of some clips against some classes, many of them 0 or equal, and the labels of the clips."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    clips, classes = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    values = rng.choice([0, 0, 1, 2.5, 40], (clips, classes)) * rng.choice([1, rng.random()], (clips, classes))
    return values.astype(np.float32), rng.integers(-1, classes, clips)


@given(tables(), st.sampled_from(RANKINGS))
def test_equals_the_reference(table, ranking):
    values, labels = table
    wanted = reference.layer_score(values.tolist(), labels.tolist(), ranking)
    np.testing.assert_allclose(layer_score(values, labels, ranking), wanted, rtol=1e-6, atol=1e-12)


def test_scores_computed_by_hand():
    values, labels = np.array([[1, 10], [3, 2]], np.float32), np.array([0, 1])
    assert layer_score(values, labels, "wasserstein") == (2 + 8) / 2
    # Ranks from 0: (0, 3) and (2, 1), of 3.
    assert layer_score(values, labels, "rank") == pytest.approx((2 / 3 + 2 / 3) / 2)


@given(tables())
def test_rank_scores_depend_on_the_order_of_deviations_alone(table):
    values, labels = table
    np.testing.assert_array_equal(layer_score(values**3 * 7, labels, "rank"), layer_score(values, labels, "rank"))


@given(tables())
def test_wasserstein_grows_with_the_scale(table):
    values, labels = table
    np.testing.assert_allclose(
        layer_score(values * 8, labels, "wasserstein"), layer_score(values, labels, "wasserstein") * 8, rtol=1e-12
    )


@given(tables(), st.sampled_from(RANKINGS), st.randoms(use_true_random=False))
def test_the_order_of_clips_and_classes_does_not_matter(table, ranking, random):
    values, labels = table
    clips = random.sample(range(len(labels)), len(labels))
    classes = random.sample(range(values.shape[1]), values.shape[1])
    renamed = np.array([classes.index(c) if c >= 0 else -1 for c in labels[clips]])
    moved = layer_score(values[clips][:, classes], renamed, ranking)
    np.testing.assert_allclose(moved, layer_score(values, labels, ranking), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("ranking", RANKINGS)
def test_a_layer_that_separates_beats_one_that_does_not(rng, ranking):
    labels = np.repeat(np.arange(3), 10)
    noise = rng.gamma(2, 5, (30, 3)).astype(np.float32)
    apart = np.where(labels[:, None] == np.arange(3), noise / 10, noise + 20).astype(np.float32)
    assert layer_score(apart, labels, ranking) > 2 * layer_score(noise, labels, ranking)


@pytest.mark.parametrize("ranking", RANKINGS)
def test_without_a_class_that_has_own_and_other_clips_the_score_is_nan(ranking):
    for labels in ([0, 0], [-1, -1]):
        assert math.isnan(layer_score(np.ones((2, 2), np.float32), np.array(labels), ranking))
    assert math.isnan(layer_score(np.empty((0, 2), np.float32), np.empty(0, int), ranking))


@pytest.mark.parametrize("ranking", RANKINGS)
def test_columns_of_classes_without_training_clips_are_left_out(rng, ranking):
    values, labels = rng.random((20, 4), dtype=np.float32), rng.integers(0, 4, 20)
    present = np.array([True, False, True, True])
    renamed = np.array([0, -1, 1, 2])[labels]
    wanted = layer_score(values[:, present], renamed, ranking)
    values[:, 1] = np.nan
    assert layer_score(values, labels, ranking, present) == wanted


def test_unknown_rankings_and_wrong_shapes_are_refused():
    values = np.ones((2, 2), np.float32)
    with pytest.raises(ValueError, match="must be rank or wasserstein"):
        layer_score(values, np.array([0, 1]), "paper")
    with pytest.raises(ValueError, match="labels of 2 clips"):
        layer_score(values, np.array([0]), "rank")
    with pytest.raises(ValueError, match="finite"):
        layer_score(np.array([[1, np.nan], [0, 1]], np.float32), np.array([0, 1]), "rank")


@given(st.integers(0, 2**32), st.integers(2, 20), st.integers(1, 5))
def test_the_paper_s_score_is_equation_12_and_the_mean_of_the_negatives(seed, clips, channels):
    rng = np.random.default_rng(seed)
    scaled, labels = rng.random((clips, channels), dtype=np.float32), rng.permutation(np.arange(clips) % 2)
    bounds = Bounds.empty(2, channels)
    bounds.update(scaled, labels)
    table = deviations(scaled, bounds.lower, bounds.upper, 0.05)
    negatives = ExactMean((2,))
    negatives.add(table, labels[:, None] != np.arange(2))
    score = paper_score(negatives.mean(), negatives.counts)
    assert score == pytest.approx(reference.layer_score(table.tolist(), labels.tolist(), "paper"), rel=1e-6)
    assert score == pytest.approx(layer_score(table, labels, "wasserstein"), rel=1e-6)
    assert score == pytest.approx(np.mean([table[labels != c, c].mean(dtype=np.float64) for c in range(2)]), rel=1e-6)


def test_the_paper_s_score_leaves_out_classes_without_negatives():
    assert paper_score(np.array([1.0, 0.0, 3.0]), np.array([4, 0, 2])) == 2
    assert math.isnan(paper_score(np.array([0.0]), np.array([0])))


@given(st.integers(0, 2**32), st.booleans())
def test_curve_is_the_accuracy_of_the_first_layers(seed, with_logits):
    rng = np.random.default_rng(seed)
    table = rng.choice([0, 1, 2, 3], (15, 6, 3)).astype(np.float32)
    scales, labels = rng.random(6) + 0.5, rng.integers(0, 3, 15)
    present, logits = np.array([True, True, rng.random() < 0.5]), rng.random((15, 3)) if with_logits else None
    result = curve(np.moveaxis(table, 1, 0), scales, present, logits, labels)
    wanted = [(decide(total(table[:, :k], scales[:k]), present, logits).label == labels).mean() for k in range(1, 7)]
    assert result.dtype == np.float64
    assert result.tolist() == wanted


def test_curve_computed_by_hand():
    table = np.array([[[0, 1], [5, 0]], [[0, 1], [0, 1]]], np.float32)  # (clip, layer, class)
    ones, labels = np.ones(2), np.array([1, 0])
    assert curve(np.moveaxis(table, 1, 0), ones, np.ones(2, bool), None, labels).tolist() == [0.5, 1.0]
