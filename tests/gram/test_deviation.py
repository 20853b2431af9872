from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.gram import deviation
from gramcli.gram.bounds import Bounds
from gramcli.gram.deviation import deviations, touched
from tests import reference

EPSILONS = st.sampled_from([0.05, 1e-6, 0.5])


@st.composite
def layers(draw):
    """Draws g̃ of some clips and bounds of some classes: zeros, values on a bound, and classes of one clip occur."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, k, c = draw(st.integers(1, 6)), draw(st.integers(1, 12)), draw(st.integers(1, 4))
    scaled = rng.random((n, k), dtype=np.float32) ** 2
    ends = np.sort(rng.random((2, c, k), dtype=np.float32), axis=0)
    ends[0][rng.random((c, k)) < 0.2] = 0
    ends[:, rng.random((c, k)) < 0.2] = 0
    ends[1] = np.where(rng.random((c, k)) < 0.2, ends[0], ends[1])
    scaled[:, rng.random(k) < 0.2] = ends[1, 0, 0]
    return scaled, ends[0], ends[1]


def reference_deviations(scaled, lower, upper, epsilon):
    ranges = [(low, high) for low, high in zip(lower.tolist(), upper.tolist(), strict=True)]
    return np.array([[reference.layer_deviation(clip, own, epsilon) for own in ranges] for clip in scaled.tolist()])


@given(layers(), EPSILONS)
def test_equals_the_reference(layer, epsilon):
    result = deviations(*layer, epsilon)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, reference_deviations(*layer, epsilon), rtol=1e-6, atol=0)


@pytest.mark.parametrize("channels", [1, 64, 2047, 4096])
def test_equals_the_reference_on_wide_layers(rng, channels):
    ends = np.sort(rng.random((2, 3, channels), dtype=np.float32) ** 3, axis=0)
    layer = rng.random((5, channels), dtype=np.float32), ends[0], ends[1]
    np.testing.assert_allclose(deviations(*layer, 1e-6), reference_deviations(*layer, 1e-6), rtol=1e-6, atol=0)


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 9), EPSILONS)
def test_training_clips_do_not_deviate_from_their_class(seed, clips, channels, epsilon):
    rng = np.random.default_rng(seed)
    scaled, labels = rng.random((clips, channels), dtype=np.float32), rng.integers(0, 3, clips)
    bounds = Bounds.empty(3, channels)
    bounds.update(scaled, labels)
    filled = bounds.filled()
    own = deviations(scaled, filled.lower, filled.upper, epsilon)[np.arange(clips), labels]
    assert (own == 0).all()


@given(layers(), EPSILONS)
def test_wider_bounds_deviate_less(layer, epsilon):
    scaled, lower, upper = layer
    wider = deviations(scaled, lower / 2, np.minimum(upper * 2, 1), epsilon)
    # Below: (λ - g) / λ falls with λ; above: (g - Λ) / Λ falls with Λ.
    assert (wider <= deviations(scaled, lower, upper, epsilon) * np.float32(1 + 1e-6)).all()


@pytest.mark.parametrize("channels", [1, 5, 63, 64, 1000, 3001, deviation.BLOCK // 2 - 1, deviation.BLOCK + 1])
def test_a_clip_does_not_depend_on_the_others(rng, channels):
    clips = 70 if channels < 5000 else 5
    ends = np.sort(rng.random((2, 3, channels), dtype=np.float32), axis=0)
    scaled = rng.random((clips, channels), dtype=np.float32)
    together = deviations(scaled, ends[0], ends[1], 0.05)
    for n in (1, 2, 3, 5):
        apart = [deviations(scaled[i : i + n], ends[0], ends[1], 0.05) for i in range(0, clips, n)]
        np.testing.assert_array_equal(np.concatenate(apart), together)
    columns = [deviations(scaled, ends[0, c : c + 1], ends[1, c : c + 1], 0.05) for c in range(3)]
    np.testing.assert_array_equal(np.concatenate(columns, axis=1), together)
    np.testing.assert_array_equal(deviations(np.asfortranarray(scaled), ends[0], ends[1], 0.05), together)


def test_blocks_of_clips_give_the_same_bits_as_single_clips(rng):
    channels = 100
    clips = 2 * (deviation.BLOCK // channels) + 3
    scaled = rng.random((clips, channels), dtype=np.float32)
    lower, upper = np.full((2, 1, channels), [[[0.3]], [[0.6]]], np.float32)
    wanted = (np.maximum(lower - scaled, 0) / lower + np.maximum(scaled - upper, 0) / upper).sum(1, dtype=np.float64)
    np.testing.assert_allclose(deviations(scaled, lower, upper, 0.05)[:, 0], wanted, rtol=1e-6)


def test_deviations_computed_by_hand():
    scaled = np.array([[0.5, 0, 1], [0.125, 0.5, 0]], np.float32)
    lower = np.array([[0.25, 0, 0.5]], np.float32)
    upper = np.array([[0.5, 0, 0.5]], np.float32)
    # Second clip: (0.25 - 0.125) / 0.25 + (0.5 - 0) / ε + (0.5 - 0) / 0.5.
    assert deviations(scaled, lower, upper, 0.0625).tolist() == [[1.0], [9.5]]
    assert deviations(scaled, lower, upper, 2.0**-20).tolist() == [[1.0], [0.5 + 2**19 + 1]]


def test_a_channel_at_zero_below_its_lower_bound_adds_exactly_one(rng):
    lower = rng.uniform(0.05, 1, (500, 1)).astype(np.float32)
    assert (deviations(np.zeros((1, 1), np.float32), lower, lower, 0.05) == 1).all()


def test_where_the_upper_bound_is_zero_the_denominator_is_epsilon():
    zero = np.zeros((1, 4), np.float32)
    assert deviations(np.ones((1, 4), np.float32), zero, zero, 0.5).tolist() == [[8]]
    assert np.isfinite(deviations(np.ones((1, 4), np.float32), zero, zero, 1e-30)).all()
    assert touched(zero, zero, np.array([1]), 0.5) == 4


def test_terms_are_summed_in_float64():
    # 2^24 from a channel that never rose swallows halves in float32.
    scaled = np.array([[1] + [0.75] * 1000], np.float32)
    upper = np.array([[0] + [0.5] * 1000], np.float32)
    assert deviations(scaled, np.zeros_like(upper), upper, 2.0**-24).tolist() == [[2**24 + 500]]


def test_touched_counts_upper_bounds_of_classes_with_clips():
    lower = np.zeros((3, 4), np.float32)
    upper = np.array([[0, 0.04, 0.05, 1], [0, 0, 0, 0], [0.5, 0.5, 0.5, 0.01]], np.float32)
    assert touched(lower, upper, np.array([2, 0, 1]), 0.05) == 3


def test_nan_stays_nan_and_changes_no_other_clip():
    scaled = np.array([[0.5, 0.5], [np.nan, 0.5], [0.5, 0.5]], np.float32)
    lower, upper = np.full((2, 2, 2), [[[0.1]], [[0.2]]], np.float32)
    result = deviations(scaled, lower, upper, 0.05)
    assert np.isnan(result[1]).all()
    assert np.isfinite(result[[0, 2]]).all()


def test_an_array_of_no_clips_is_allowed():
    bounds = np.zeros((3, 4), np.float32)
    assert deviations(np.empty((0, 4), np.float32), bounds, bounds, 0.05).shape == (0, 3)


def test_infinite_bounds_are_refused():
    empty = Bounds.empty(2, 3)
    with pytest.raises(ValueError, match="for classes without clips"):
        deviations(np.zeros((1, 3), np.float32), empty.lower, empty.upper, 0.05)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 1e-40, float("nan")])
def test_an_epsilon_so_small_that_deviations_overflow_is_refused(epsilon):
    bounds = np.zeros((1, 3), np.float32)
    with pytest.raises(ValueError, match="at least 1e-30"):
        deviations(bounds, bounds, bounds, epsilon)


def test_shapes_must_fit():
    three, four = np.zeros((1, 3), np.float32), np.zeros((1, 4), np.float32)
    for lower, upper in [(three, four), (four, four)]:
        with pytest.raises(ValueError, match="do not fit 3 channels"):
            deviations(three, lower, upper, 0.05)
    with pytest.raises(ValueError, match="do not fit 2 classes"):
        touched(three, three, np.array([1, 1]), 0.05)
