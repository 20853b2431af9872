from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.gram import descriptor, deviation, kernels
from gramcli.gram.bounds import Bounds
from gramcli.gram.kernels import Plan

BY_NUMPY, COMPILED = Plan(compiled=False), Plan(compiled=True)


def layer(seed, clips, channels, classes):
    """Returns ĝ, λ, Λ and labels. Some bounds are 0, and some are of one clip."""
    rng = np.random.default_rng(seed)
    raw = (rng.random((clips, channels)) ** 4 * 10.0 ** rng.integers(-3, 6)).astype(np.float32)
    ends = np.sort(rng.random((2, classes, channels), dtype=np.float32), axis=0)
    ends[0][rng.random((classes, channels)) < 0.3] = 0
    ends[:, rng.random((classes, channels)) < 0.2] = 0
    return raw, ends[0], ends[1], rng.integers(0, classes, clips)


def both(work):
    """Returns the results of NumPy and of the compiled loops."""
    return work(BY_NUMPY), work(COMPILED)


sizes = st.tuples(st.integers(0, 2**32), st.integers(1, 70), st.integers(1, 600), st.integers(1, 4))


@given(sizes)
def test_deviations_are_those_of_numpy_bit_for_bit(size):
    raw, lower, upper, _ = layer(*size)
    scaled = descriptor.normalise(raw)
    slow, fast = both(lambda plan: deviation.deviations(scaled, lower, upper, 0.05, plan))
    np.testing.assert_array_equal(slow, fast)


@pytest.mark.parametrize("channels", [1, 7, 8, 9, 127, 128, 129, 136, 255, 256, 257, 1000, 2048, 4099])
def test_the_summation_order_is_that_of_numpy(rng, channels):
    raw, lower, upper, _ = layer(channels, 3, channels, 2)
    slow, fast = both(lambda plan: deviation.deviations(descriptor.normalise(raw), lower, upper, 1e-6, plan))
    np.testing.assert_array_equal(slow, fast)
    runs, additions = kernels.summation_order(channels)
    assert runs[:, 1].sum() == channels
    assert len(additions) == len(runs) - 1


@given(sizes)
def test_scaling_is_that_of_numpy_bit_for_bit(size):
    raw = layer(*size)[0]
    raw[0] = raw[0, 0]
    slow, fast = both(lambda plan: descriptor.normalise(raw, plan))
    np.testing.assert_array_equal(slow, fast)
    np.testing.assert_array_equal(descriptor.normalise(raw, Plan(compiled=True, threads=2)), fast)


def test_numbers_that_are_not_finite_stay_visible():
    raw = np.array([[1, 2, np.nan], [1, np.inf, 2], [3, 3, 3], [0, 1, 2]], np.float32)
    scaled = descriptor.normalise(raw, COMPILED)
    assert np.isnan(scaled[:2]).all()
    assert scaled[2:].tolist() == [[0, 0, 0], [0, 0.5, 1]]
    lower, upper = np.full((2, 1, 3), [[[0.1]], [[0.2]]], np.float32)
    found = deviation.deviations(scaled, lower, upper, 0.05, COMPILED)
    assert np.isnan(found[:2]).all()
    assert np.isfinite(found[2:]).all()


@given(sizes)
def test_bounds_are_those_of_numpy_bit_for_bit(size):
    raw, lower, _, labels = layer(*size)

    def gathered(plan):
        bounds = Bounds.empty(*lower.shape)
        for some in (slice(0, 9), slice(9, None)):
            bounds.update(descriptor.normalise(raw[some], plan), labels[some], plan)
        return bounds

    slow, fast = both(gathered)
    for name in ("lower", "upper", "counts"):
        np.testing.assert_array_equal(getattr(slow, name), getattr(fast, name))


def test_threads_change_no_bit(monkeypatch):
    monkeypatch.setattr(deviation, "STEPS_PER_THREAD", 1)
    raw, lower, upper, _ = layer(3, 333, 300, 5)
    scaled = descriptor.normalise(raw)
    plans = (Plan(compiled=True, threads=threads) for threads in (1, 2, 3, 50))
    one, *more = (deviation.deviations(scaled, lower, upper, 0.05, plan) for plan in plans)
    for other in more:
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("clips", "threads"), [(0, 2), (1, 2), (32, 2), (33, 2), (1000, 3)])
def test_each_thread_gets_whole_blocks_of_clips(clips, threads):
    parts = []
    kernels.in_threads(parts.append, clips, threads)
    parts.sort(key=lambda part: part.start)
    assert [place for part in parts for place in range(part.start, part.stop)] == list(range(clips))
    assert all(part.start % kernels.WIDTH == 0 for part in parts)


def test_loops_give_the_same_bits_in_plain_python_and_compiled():
    raw, lower, upper, labels = layer(5, 3, 140, 2)
    arrays = []
    for prepare in (lambda function: function, kernels.machine_code):
        scaled, far, low, up = np.empty_like(raw), np.empty((3, 2), np.float32), lower.copy(), upper.copy()
        prepare(kernels.scale)(raw, scaled)
        prepare(kernels.deviate)(scaled, lower, upper, np.float32(0.05), *kernels.summation_order(140), far)
        prepare(kernels.widen)(low, up, scaled, labels)
        arrays.append((scaled, far, low, up))
    for plain, fast in zip(*arrays, strict=True):
        np.testing.assert_array_equal(plain, fast)


def test_the_plan_depends_on_the_size_of_the_work_alone():
    for _ in range(3):
        assert not kernels.plan(kernels.STEPS_TO_COMPILE - 1).compiled
        assert kernels.plan(kernels.STEPS_TO_COMPILE, threads=2) == Plan(compiled=True, threads=2)


def test_it_compiles_where_numba_finds_no_folder_for_its_cache(monkeypatch):
    import numba

    real = numba.njit

    def nowhere(*, cache, **kind):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(**kind)

    monkeypatch.setattr(numba, "njit", nowhere)
    raw = layer(1, 4, 9, 1)[0]
    result = np.empty_like(raw)
    kernels.machine_code.__wrapped__(kernels.scale)(raw, result)
    np.testing.assert_array_equal(result, descriptor.normalise(raw))
