from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gramcli.gram import total as totals
from gramcli.gram.total import decide, running_totals, total
from tests import reference

# Few values, so that ties are common; the rest of a score table's troubles among them.
score = st.sampled_from([0.0, -0.0, 0.5, 1.0, 2.0, math.inf, math.nan])
tables = hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=score)


def one(scores, present=None, logits=None):
    """Returns the choice for a single clip as plain values."""
    row = np.array([scores], np.float64)
    there = np.ones(row.shape[1], bool) if present is None else np.array(present)
    choice = decide(row, there, None if logits is None else np.array([logits], np.float32))
    return choice.label.item(), choice.runner_up.item(), choice.tied.item()


@given(tables, st.data())
def test_equals_the_reference(scores, draw):
    logits = draw.draw(hnp.arrays(np.float32, scores.shape, elements=st.sampled_from([-1.0, 0.0, 3.0])))
    present = draw.draw(hnp.arrays(np.bool_, scores.shape[1:]))
    choice = decide(scores, present, logits)
    for i, row in enumerate(scores):
        masked = np.where(present, row, np.nan)
        first, second = reference.decide(masked.tolist(), logits[i].tolist())
        assert (choice.label[i], choice.runner_up[i]) == (first, second)
        np.testing.assert_equal(choice.score[i], row[first] if first >= 0 else np.nan)
        assert choice.tied[i] == (second >= 0 and row[first] == row[second])
        gap = np.nan if second < 0 else 0.0 if choice.tied[i] else row[second] - row[first]
        np.testing.assert_equal(choice.margin[i], gap)


@given(tables)
def test_a_clip_does_not_depend_on_the_others(scores):
    present = np.ones(scores.shape[1], bool)
    together = decide(scores, present)
    for i in range(len(scores)):
        alone = decide(scores[i : i + 1], present)
        for name in ("label", "runner_up", "score", "margin", "tied"):
            np.testing.assert_array_equal(getattr(alone, name), getattr(together, name)[i : i + 1])


@given(tables, st.booleans(), st.integers(0, 2**32))
def test_blocks_of_clips_and_sorting_all_scores_give_the_same(scores, with_logits, seed):
    rng = np.random.default_rng(seed)
    logits = rng.choice([0.0, 1.0, math.nan, -math.inf], scores.shape) if with_logits else None
    present = rng.random(scores.shape[1]) < 0.8
    candidate = present & ~np.isnan(scores)
    keys = np.where(candidate, scores, np.inf), ~candidate
    order = np.lexsort(keys if logits is None else (-logits, *keys), axis=-1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(totals, "BLOCK", 1)
        choice = decide(scores, present, logits)
    count = candidate.sum(axis=1)
    np.testing.assert_array_equal(choice.label, np.where(count > 0, order[:, 0], -1))
    np.testing.assert_array_equal(choice.runner_up, np.where(count > 1, order[:, min(1, order.shape[1] - 1)], -1))


def test_nan_never_wins(rng):
    scores = rng.choice([0.0, 1.0, np.inf, np.nan], (10_000, 6), p=[0.1, 0.2, 0.2, 0.5])
    logits = rng.choice([0.0, 1.0, np.nan, np.inf, -np.inf], scores.shape)
    present = np.array([True, True, False, True, True, True])
    choice = decide(scores, present, logits)
    none = (np.isnan(scores) | ~present).all(axis=1)
    assert 0 < none.sum() < len(scores)
    np.testing.assert_array_equal(choice.label == -1, none)
    chosen = scores[~none, choice.label[~none]]
    np.testing.assert_array_equal(chosen, np.nanmin(scores[~none][:, present], axis=1))
    assert not (choice.label == 2).any()
    assert not (choice.runner_up == 2).any()


def test_the_smallest_score_wins():
    assert one([3, 1, 2]) == (1, 2, False)
    assert one([3, math.nan, 1]) == (2, 0, False)


def test_ties_go_to_the_larger_logit_then_to_class_order():
    assert one([0, 0, 0, 5], logits=[1, 7, 3, 9]) == (1, 2, True)
    assert one([0, 0, 0, 5], logits=[4, 4, 4, 9]) == (0, 1, True)
    assert one([0, 0, 0, 5]) == (0, 1, True)
    assert one([0, 0], logits=[math.nan, -5]) == (1, 0, True)
    assert one([math.inf, math.inf]) == (0, 1, True)


def test_a_class_without_training_clips_is_never_chosen():
    assert one([0, 1, 2], present=[False, True, True]) == (1, 2, False)
    assert one([0, 0, 2], present=[False, True, True], logits=[9, 0, 0]) == (1, 2, False)
    assert one([0, 1, 2], present=[False, True, False]) == (1, -1, False)


def test_without_a_class_that_can_be_chosen_there_is_no_label():
    for scores, present in (([math.nan, math.nan], [True, True]), ([1.0, 2.0], [False, False])):
        choice = decide(np.array([scores]), np.array(present))
        assert (choice.label.item(), choice.runner_up.item(), choice.tied.item()) == (-1, -1, False)
        assert math.isnan(choice.score.item())
        assert math.isnan(choice.margin.item())


def test_one_class_has_no_runner_up():
    choice = decide(np.array([[4.0]]), np.array([True]))
    assert (choice.label.item(), choice.runner_up.item(), choice.score.item()) == (0, -1, 4)
    assert math.isnan(choice.margin.item())


def test_decide_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="do not fit"):
        decide(np.zeros((2, 3)), np.ones(2, bool))
    with pytest.raises(ValueError, match="do not fit"):
        decide(np.zeros((2, 3)), np.ones(3, bool), np.zeros((2, 4)))


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 7), st.integers(1, 4))
def test_total_equals_the_reference(seed, clips, layers, classes):
    rng = np.random.default_rng(seed)
    table = rng.gamma(0.5, 100, (clips, layers, classes)).astype(np.float32)
    scales = rng.gamma(1, 50, layers) + 1e-3
    result = total(table, scales)
    wanted = [[reference.total(row[:, c], scales) for c in range(classes)] for row in table.astype(np.float64)]
    np.testing.assert_allclose(result, wanted, rtol=1e-12)
    for k, first in enumerate(running_totals(np.moveaxis(table, 1, 0), scales), start=1):
        np.testing.assert_array_equal(first, total(table[:, :k], scales[:k]))
    np.testing.assert_array_equal(np.concatenate([total(row[None], scales) for row in table]), result)


def test_total_computed_by_hand():
    table = np.array([[[2, 4], [30, 0]]], np.float32)
    assert total(table, np.array([2.0, 10.0])).tolist() == [[2, 1]]


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_a_layer_without_expected_deviation_is_refused(bad):
    with pytest.raises(ValueError, match="leave such layers out"):
        total(np.ones((1, 2, 3), np.float32), np.array([1.0, bad]))


def test_total_refuses_zero_layers_and_wrong_numbers_of_layers():
    with pytest.raises(ValueError, match="do not fit 0 layers"):
        total(np.ones((1, 0, 3), np.float32), np.array([]))
    with pytest.raises(ValueError, match="do not fit 2 layers"):
        total(np.ones((1, 2, 3), np.float32), np.array([1.0]))
