"""Pairs of known and unknown clips."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.metrics.matching import Caliper, match
from gramcli.metrics.ood import auroc


def units(known, unknown):
    """What a pair may differ by."""
    return np.maximum(Caliper().width * np.sqrt((np.var(known, axis=0) + np.var(unknown, axis=0)) / 2), 1e-6)


def slow(known, unknown):
    """The least cost of all pairings: squares of distances, and the number of features for each pair that is not."""
    least = np.inf
    for choice in itertools.product([None, *range(len(known))], repeat=len(unknown)):
        pairs = [(k, u) for u, k in enumerate(choice) if k is not None]
        if len({k for k, _ in pairs}) < len(pairs):
            continue
        apart = [np.abs(known[k] - unknown[u]) / units(known, unknown) for k, u in pairs]
        if not any((one > 1).any() for one in apart):
            least = min(least, cost(apart, known, unknown))
    return least


def cost(apart, known, unknown):
    return sum((one**2).sum() for one in apart) + known.shape[1] * (min(len(known), len(unknown)) - len(apart))


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 4))
def test_no_pairing_costs_less(seed, n, m):
    rng = np.random.default_rng(seed)
    known, unknown = 0.2 * rng.normal(size=(n, 2)) + rng.integers(2, size=(n, 1)), rng.integers(2, size=(m, 1)) * [1, 1]
    unknown = unknown + 0.2 * rng.normal(size=(m, 2))
    ours, theirs = match(known, unknown)
    apart = list((known[ours] - unknown[theirs]) / units(known, unknown))
    assert cost(apart, known, unknown) == pytest.approx(slow(known, unknown))


@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 30))
def test_one_to_one_within_the_caliper_and_in_any_order(seed, n, m):
    rng = np.random.default_rng(seed)
    known, unknown = rng.normal(size=(n, 3)), rng.normal(1, 1, size=(m, 3))
    ours, theirs = match(known, unknown)
    assert len(set(ours)) == len(set(theirs)) == len(ours) == len(theirs)
    assert (np.abs(known[ours] - unknown[theirs]) <= units(known, unknown) * (1 + 1e-9)).all()
    pairs = {(tuple(known[k]), tuple(unknown[u])) for k, u in zip(ours, theirs, strict=True)}
    order, other = rng.permutation(n), rng.permutation(m)
    again = match(known[order], unknown[other])
    assert {(tuple(known[order][k]), tuple(unknown[other][u])) for k, u in zip(*again, strict=True)} == pairs


def test_units_do_not_matter(rng):
    known, unknown = rng.normal(size=(40, 2)), rng.normal(0.5, 1, size=(30, 2))
    before = match(known, unknown)
    for one, other in zip(before, match(known * [3, 100] + 7, unknown * [3, 100] + 7), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_feature_that_nobody_varies_in(rng):
    level = rng.normal(size=(20, 1))
    alike = match(np.hstack([np.ones((20, 1)), level]), np.hstack([np.ones((20, 1)), level]))
    np.testing.assert_array_equal(*alike)
    assert len(alike[0]) == 20
    assert len(match(np.hstack([np.ones((20, 1)), level]), np.hstack([np.full((20, 1), 0.5), level]))[0]) == 0


def test_differences_that_do_not_matter(rng):
    """Lengths of 5 s but for a few samples are of one length, however little they vary."""
    known, unknown = np.full((20, 1), 5.0), 5 + 0.001 * rng.normal(size=(20, 1))
    assert len(match(known, unknown)[0]) < 10
    assert len(match(known, unknown, Caliper(least=[0.01]))[0]) == 20
    assert len(match(known, unknown + 0.02, Caliper(least=[0.01]))[0]) == 0


def test_pairs_are_balanced_where_the_sides_were_not(rng):
    known, unknown = rng.normal(size=(300, 1)), rng.normal(1, 1, size=(300, 1))
    ours, theirs = match(known, unknown)
    assert auroc(known[:, 0], unknown[:, 0]) > 0.7
    assert abs(auroc(known[ours, 0], unknown[theirs, 0]) - 0.5) < 0.03
    assert len(ours) > 100


def test_far_apart_there_is_no_pair():
    assert [len(one) for one in match(np.arange(9.0)[:, None], np.arange(100.0, 109)[:, None])] == [0, 0]


def test_nobody():
    for n, m in ((0, 3), (3, 0), (0, 0)):
        assert [len(one) for one in match(np.zeros((n, 2)), np.zeros((m, 2)))] == [0, 0]


def test_many_clips_are_sampled(rng):
    """What a hundred thousand clips would take as a whole nobody would wait for."""
    known, unknown = rng.normal(size=(100_000, 3)), rng.normal(size=(50, 3))
    began = time.monotonic()
    ours, theirs = match(known, unknown, most=500)
    assert time.monotonic() - began < 20
    assert len(ours) > 10
    order = rng.permutation(100_000)
    again = match(known[order], unknown, most=500)
    np.testing.assert_array_equal(order[again[0]], ours)
    np.testing.assert_array_equal(again[1], theirs)


def test_what_cannot_be_matched():
    with pytest.raises(ValueError, match="do not fit"):
        match(np.zeros((3, 2)), np.zeros((3, 1)))
    with pytest.raises(ValueError, match="not finite"):
        match(np.array([[np.nan]]), np.zeros((3, 1)))
