"""Sizes of subsamples, their number, and the clips dealt into them."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gramcli.rule.subsample import (
    DRAWS,
    MAX_SIZES,
    SAME_SIZE,
    class_sizes,
    clips_per_group,
    deal_subsamples,
    subsample_sizes,
)

counted = st.lists(st.integers(0, 1500), min_size=1, max_size=12).map(np.array)


@given(counted)
def test_sizes_are_class_sizes_that_differ_enough(counts):
    found = class_sizes(counts)
    assert len(found) != 1
    assert len(found) <= MAX_SIZES
    assert set(found) <= set(counts)
    assert all(large >= SAME_SIZE * small for small, large in pairwise(found.tolist()))
    if len(found):
        assert found[0] == counts[counts > 0].min()
        # no class is larger than the last size by more than counts as equal, as long as there is room for all
        assert len(found) == MAX_SIZES or counts.max() < SAME_SIZE * found[-1]


@given(counted)
def test_classes_of_equal_size_have_no_subsamples(counts):
    there = counts[counts > 0]
    about_equal = not len(there) or there.max() < SAME_SIZE * there.min()
    assert (subsample_sizes(counts).size == 0) == about_equal


def test_of_many_sizes_the_largest_is_kept():
    found = class_sizes(np.array([5 * 2**n for n in range(12)]))
    assert len(found) == MAX_SIZES
    assert (found[0], found[-1]) == (5, 5 * 2**11)


@given(counted)
def test_subsamples_of_one_size_fit_into_the_class_together(counts):
    looked_at, table = class_sizes(counts), subsample_sizes(counts)
    assert table.shape[0] == len(counts)
    for row, count in zip(table, counts, strict=True):
        filled = row[row > 0]
        assert (row[len(filled) :] == 0).all()
        assert (np.diff(filled) >= 0).all()
        # the largest classes have one of every size, the smallest have none
        wanted = looked_at[looked_at <= count] if len(looked_at) and count >= looked_at[1] else []
        assert set(filled) == set(wanted)
        assert all(times * size <= count for size, times in Counter(filled.tolist()).items())
    for size in looked_at:
        drawn = (table == size).sum(axis=1)
        assert drawn.sum() <= max(DRAWS, np.count_nonzero(drawn))


def test_subsample_sizes_computed_by_hand():
    assert subsample_sizes(np.array([5, 500])).tolist() == [[0] * 21, [5] * 20 + [500]]
    assert subsample_sizes(np.array([0, 50, 20, 20, 21])).tolist() == [[0] * 3, [20, 20, 50], [0] * 3, [0] * 3, [0] * 3]
    assert subsample_sizes(np.array([7, 7, 8])).shape == (3, 0)


def test_clips_per_group_by_size():
    counts, groups = np.array([20, 22, 100, 0, 100]), np.array([5, 11, 100, 0, 50])
    assert clips_per_group(counts, groups) == {20: 3, 100: 2}  # means of 4 and 2, and of 1 and 2, to the even number
    assert clips_per_group(np.array([3, 3]), np.array([1, 1])) == {}


@st.composite
def dealing(draw):
    """Draws clips of a class, their groups, and sizes of subsamples that fit into the class."""
    n = draw(st.integers(1, 60))
    groups = [f"recording {draw(st.integers(0, n))}" for _ in range(n)]
    wanted = []
    for size in sorted(draw(st.sets(st.integers(1, n), max_size=4))):
        wanted += [size] * draw(st.integers(1, n // size))
    alike = {size: draw(st.integers(1, 8)) for size in set(wanted)}
    return [f"clip {i}" for i in range(n)], groups, np.array([*wanted, 0], np.int64), alike


@given(dealing(), st.randoms(use_true_random=False))
def test_subsamples_have_their_size_share_no_clip_and_ignore_the_order(dealt, random):
    keys, groups, wanted, alike = dealt
    chosen = deal_subsamples(keys, groups, wanted, alike)
    assert chosen.shape == (len(keys), len(wanted))
    assert (chosen.sum(axis=0) == wanted).all()
    for size in set(wanted.tolist()):
        assert chosen[:, wanted == size].sum(axis=1).max() <= 1
    order = list(range(len(keys)))
    random.shuffle(order)
    moved = deal_subsamples([keys[n] for n in order], [groups[n] for n in order], wanted, alike)
    assert (moved == chosen[order]).all()


@given(st.integers(1, 6), st.integers(2, 12), st.integers(1, 30))
def test_clips_of_a_recording_stay_together(clips, recordings, size):
    """Only the recordings at the two ends of a subsample may be split."""
    size = min(size, clips * recordings)
    groups = [f"recording {n // clips}" for n in range(clips * recordings)]
    wanted = np.full(clips * recordings // size, size)
    chosen = deal_subsamples([f"clip {n}" for n in range(len(groups))], groups, wanted, {size: clips})
    for column in chosen.T:
        taken = Counter(group for group, yes in zip(groups, column, strict=True) if yes)
        assert sum(times < clips for times in taken.values()) <= 2


def test_for_a_small_class_of_many_recordings_subsamples_have_many():
    groups = [f"recording {n // 20}" for n in range(400)]
    keys = [f"clip {n}" for n in range(400)]
    for alike, least, most in ((1, 9, 20), (20, 1, 2)):
        chosen = deal_subsamples(keys, groups, np.full(20, 20), {20: alike})
        recordings = [len({group for group, yes in zip(groups, column, strict=True) if yes}) for column in chosen.T]
        assert least <= min(recordings)
        assert max(recordings) <= most


def test_sizes_are_dealt_independently():
    keys = [f"clip {n}" for n in range(64)]
    chosen = deal_subsamples(keys, keys, np.array([32, 33]), {32: 1, 33: 1})
    assert not (chosen[:, 0] <= chosen[:, 1]).all()


def test_names_with_undecodable_bytes_are_dealt():
    names = ["\udcff.wav", "b.wav"]
    assert deal_subsamples(names, names, np.array([1, 1]), {1: 1}).sum() == 2
