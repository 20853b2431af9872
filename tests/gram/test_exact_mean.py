from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gramcli.gram.exact_mean import ExactMean

floats = st.floats(allow_nan=False, allow_infinity=False, width=32)
tables = hnp.arrays(np.float32, st.tuples(st.integers(1, 20), st.integers(1, 3)), elements=floats)


def mean_of(values: np.ndarray, shape: tuple[int, ...], mask: np.ndarray | None = None) -> ExactMean:
    mean = ExactMean(shape)
    mean.add(values, mask)
    return mean


@given(tables)
def test_the_mean_is_that_of_fsum(values):
    mean = mean_of(values, values.shape[1:])
    assert mean.mean().tolist() == [math.fsum(column) / len(values) for column in values.T.tolist()]
    assert mean.counts.tolist() == [len(values)] * values.shape[1]


@given(tables, st.data())
def test_any_order_and_any_shards_give_the_same_bits(values, draw):
    order = np.array(draw.draw(st.permutations(range(len(values)))), int)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(values)), max_size=5)))
    shape = values.shape[1:]
    mean = ExactMean(shape)
    for shard in np.split(order, cuts):
        mean.add(values[shard])
    np.testing.assert_array_equal(mean.mean(), mean_of(values, shape).mean())


@given(tables, st.data())
def test_a_mask_counts_element_by_element(values, draw):
    mask = draw.draw(hnp.arrays(np.bool_, values.shape))
    mean = mean_of(np.where(mask, values, np.float32(np.nan)), values.shape[1:], mask)
    kept = [column[chosen].tolist() for column, chosen in zip(values.T, mask.T, strict=True)]
    assert mean.counts.tolist() == [len(column) for column in kept]
    assert mean.mean().tolist() == [math.fsum(column) / max(len(column), 1) for column in kept]


def test_numbers_of_every_exponent_are_exact():
    powers = np.ldexp(np.float32(1), np.arange(-149, 128))
    values = np.concatenate([powers, np.nextafter(powers, np.float32(np.inf)), np.nextafter(powers, np.float32(0))])
    values = np.concatenate([values, -values, [-0.0]], dtype=np.float32)
    np.testing.assert_array_equal(mean_of(values[None], values.shape).mean(), values.astype(np.float64))


def test_numbers_of_very_different_sizes_are_exact(rng):
    values = (rng.standard_normal((4000, 5)) * 10.0 ** rng.integers(-44, 38, (4000, 5))).astype(np.float32)
    mean = ExactMean((5,))
    for shard in np.array_split(values, 37):
        mean.add(shard)
    assert mean.mean().tolist() == [math.fsum(column) / 4000 for column in values.T.tolist()]


def test_large_terms_that_cancel_leave_the_small_term():
    assert mean_of(np.array([3e38, 1e-40, -3e38], np.float32), ()).mean() * 3 == np.float32(1e-40)


def test_a_sum_may_exceed_the_range_of_float32():
    largest = np.finfo(np.float32).max
    mean = ExactMean(())
    for _ in range(50):
        mean.add(np.full(1000, largest))
    assert mean.mean() == largest
    assert mean.counts == 50_000


def test_shapes_may_have_any_number_of_dimensions(rng):
    values = rng.random((4, 5, 2, 3), dtype=np.float32)
    deep, flat = mean_of(values, (2, 3)), mean_of(values.reshape(-1, 6), (6,))
    assert deep.mean().shape == deep.counts.shape == (2, 3)
    np.testing.assert_array_equal(deep.mean().reshape(-1), flat.mean())
    np.testing.assert_array_equal(deep.counts, 20)
    single = mean_of(values[0, 0], (2, 3))
    np.testing.assert_array_equal(single.mean(), values[0, 0].astype(np.float64))


def test_a_mask_of_rows_broadcasts():
    values = np.array([[1, 2], [3, 5], [7, 11]], np.float32)
    mean = mean_of(values, (2,), np.array([[True], [False], [True]]))
    assert mean.mean().tolist() == [4, 6.5]


def test_without_terms_the_counts_are_zero():
    mean = mean_of(np.empty((0, 2), np.float32), (2,))
    assert mean.counts.tolist() == [0, 0]
    assert mean.mean().tolist() == [0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused_and_changes_nothing(bad):
    mean = mean_of(np.ones((1, 2), np.float32), (2,))
    with pytest.raises(ValueError, match="not finite"):
        mean.add(np.array([[5, bad]], np.float32))
    assert mean.mean().tolist() == [1, 1]
    assert mean.counts.tolist() == [1, 1]


def test_type_and_shape_must_fit():
    mean = ExactMean((2,))
    for values in (np.ones((1, 2)), np.ones((2, 3), np.float32), np.float32(1).reshape(())):
        with pytest.raises(ValueError, match="expected"):
            mean.add(values)
