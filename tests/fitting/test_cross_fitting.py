from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.fitting.cross_fitting import cross_fit, deal_parts


@given(st.integers(0, 2**32), st.integers(2, 40), st.integers(1, 5), st.integers(2, 6))
def test_groups_stay_whole_and_parts_are_even(seed, groups, classes, count):
    rng = np.random.default_rng(seed)
    group_of = np.concatenate([np.arange(groups), rng.integers(0, groups, 60)])
    labels = rng.integers(0, classes, len(group_of))
    part_of = deal_parts(group_of, labels, count)
    assert sorted(set(part_of)) == list(range(min(count, groups)))
    for group in range(groups):
        assert len(set(part_of[group_of == group])) == 1
    assert (deal_parts(group_of, labels, count) == part_of).all()


def test_every_class_is_in_every_part():
    labels = np.arange(80) % 10
    part_of = deal_parts(np.arange(80) // 2, labels)
    held = np.array([[((part_of == part) & (labels == one)).sum() for one in range(10)] for part in range(5)])
    assert held.min() == 1
    assert held.max() == 2
    assert np.ptp(np.bincount(part_of)) <= 2


def test_names_of_groups_matter_only_by_their_order():
    groups, labels = np.array([3, 1, 1, 2, 0, 0]), np.array([0, 1, 0, 1, 0, 1])
    assert (deal_parts(groups, labels, 2) == deal_parts(np.array(list("dbbcaa")), labels, 2)).all()


def test_too_few_groups_and_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="2 groups, and there are 1"):
        deal_parts(np.zeros(5), np.arange(5))
    with pytest.raises(ValueError, match="there are 0"):
        deal_parts(np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError, match="do not fit"):
        deal_parts(np.zeros(5), np.zeros(4))


def test_no_fit_scores_the_clips_it_was_fitted_on():
    part_of = np.array([0, 1, 2, 0, 1, 2, 2])
    values = np.arange(7.0)

    def mean_of_the_others(seen, held):
        assert not (seen & held).any()
        assert (seen | held).all()
        return np.column_stack([np.full(held.sum(), values[seen].mean()), values[held]])

    found = cross_fit(part_of, mean_of_the_others)
    expected = [[values[part_of != part].mean(), value] for part, value in zip(part_of, values, strict=True)]
    assert found == pytest.approx(np.array(expected))


def test_zero_clips_are_refused():
    with pytest.raises(ValueError, match="no clips"):
        cross_fit(np.zeros(0, int), lambda seen, held: np.zeros(0))


def dealt_by_a_table(groups, labels, count):
    """Returns the parts that the table of all groups and classes gives, most of whose cells are 0."""
    group_of, class_of = np.unique(groups, return_inverse=True)[1], np.unique(labels, return_inverse=True)[1]
    clips = np.zeros((group_of.max() + 1, class_of.max() + 1))
    np.add.at(clips, (group_of, class_of), 1)
    count = min(count, len(clips))
    dealt, part_of = np.zeros((count, clips.shape[1])), np.zeros(len(clips), int)
    for group in np.argsort(-clips.sum(axis=1), kind="stable"):
        of_same = dealt[:, clips[group] > 0].sum(axis=1)
        part_of[group] = np.lexsort((dealt.sum(axis=1), of_same))[0]
        dealt[part_of[group]] += clips[group]
    return np.unique(part_of, return_inverse=True)[1][group_of]


@given(st.integers(0, 2**32), st.integers(2, 30), st.integers(1, 8), st.integers(2, 6))
def test_parts_are_those_of_the_table_of_groups_and_classes(seed, groups, classes, count):
    rng = np.random.default_rng(seed)
    group_of = np.concatenate([np.arange(groups), rng.integers(0, groups, 30)])
    labels = rng.integers(0, classes, len(group_of))
    np.testing.assert_array_equal(deal_parts(group_of, labels, count), dealt_by_a_table(group_of, labels, count))
