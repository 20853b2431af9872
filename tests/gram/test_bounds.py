from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.gram.bounds import Bounds
from tests import reference

CLASSES = 4


@st.composite
def clips(draw):
    """Draws g̃ of some clips and their classes. Class 3 has no clips."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count, channels = draw(st.integers(1, 30)), draw(st.integers(1, 6))
    return rng.random((count, channels), dtype=np.float32), rng.integers(0, CLASSES - 1, count)


def gathered(scaled: np.ndarray, labels: np.ndarray) -> Bounds:
    bounds = Bounds.empty(CLASSES, scaled.shape[1])
    bounds.update(scaled, labels)
    return bounds


def assert_same(one: Bounds, other: Bounds) -> None:
    for name in ("lower", "upper", "counts"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)


@given(clips())
def test_equals_the_reference(data):
    scaled, labels = data
    bounds = gathered(scaled, labels)
    assert bounds.counts.tolist() == [int((labels == c).sum()) for c in range(CLASSES)]
    for c, wanted in enumerate(reference.bounds(scaled.tolist(), labels.tolist(), CLASSES)):
        if wanted is None:
            assert (bounds.lower[c] == np.inf).all()
            assert (bounds.upper[c] == -np.inf).all()
        else:
            assert (bounds.lower[c].tolist(), bounds.upper[c].tolist()) == wanted


@given(clips(), st.data())
def test_any_order_and_any_shards_give_the_same_bits(data, draw):
    scaled, labels = data
    order = draw.draw(st.permutations(range(len(labels))))
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(labels)), max_size=5)))
    whole, updated, merged = gathered(scaled, labels), *(Bounds.empty(CLASSES, scaled.shape[1]) for _ in range(2))
    for shard in np.split(np.array(order, int), cuts):
        updated.update(scaled[shard], labels[shard])
        merged.merge(gathered(scaled[shard], labels[shard]))
    assert_same(updated, whole)
    assert_same(merged, whole)


def test_the_bounds_of_one_clip_are_the_clip():
    clip = np.array([[0, 0.25, 1]], np.float32)
    bounds = gathered(clip, np.array([2]))
    assert bounds.lower[2].tolist() == bounds.upper[2].tolist() == clip[0].tolist()


def test_filled_returns_a_finite_copy():
    bounds = gathered(np.array([[0.5, 1]], np.float32), np.array([1]))
    filled = bounds.filled()
    assert filled.lower.tolist() == filled.upper.tolist() == [[0, 0], [0.5, 1], [0, 0], [0, 0]]
    assert filled.lower.dtype == filled.upper.dtype == np.float32
    assert filled.counts.tolist() == [0, 1, 0, 0]
    assert np.isinf(bounds.lower[0]).all()
    filled.update(np.zeros((1, 2), np.float32), np.array([1]))
    assert bounds.counts.tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_clip_with_a_number_that_is_not_finite_is_refused(bad):
    bounds = Bounds.empty(CLASSES, 2)
    with pytest.raises(ValueError, match="not finite"):
        bounds.update(np.array([[0, 1], [bad, 1]], np.float32), np.array([0, 1]))
    assert_same(bounds, Bounds.empty(CLASSES, 2))


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_out_of_range_is_refused(label):
    with pytest.raises(ValueError, match="from 0 to 3"):
        gathered(np.zeros((2, 3), np.float32), np.array([0, label]))


def test_shapes_must_fit():
    bounds = Bounds.empty(CLASSES, 3)
    with pytest.raises(ValueError, match="2 clips of 3 channels"):
        bounds.update(np.zeros((2, 4), np.float32), np.array([0, 1]))
    with pytest.raises(ValueError, match="do not fit"):
        bounds.merge(Bounds.empty(CLASSES, 4))
