from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.metrics.intervals import MIN_GROUPS, grouped_proportion, paired, proportion


def grouped(rng, groups, up=0.15, down=0.05):
    """Returns differences in {-1, 0, 1} of groups of unequal size, alike within a group, and their groups.

    Where one decision is right alone is a matter of the group too: rates follow beta distributions of these means.
    """
    group_of = np.repeat(np.arange(groups), 1 + rng.geometric(0.3, groups))
    gains, losses = rng.beta(1, 1 / up - 1, groups), rng.beta(1, 1 / down - 1, groups)
    better, worse = (rng.random(len(group_of)) < rate[group_of] for rate in (gains, losses))
    return better.astype(float) - worse, group_of


def coverage(groups, trials, resamples, truth):
    """Returns how often the interval holds the truth, and how often it is above it."""
    rng = np.random.default_rng(groups)
    found = [paired(*grouped(rng, groups), resamples=resamples, seed=trial) for trial in range(trials)]
    above = np.mean([one.low > truth for one in found])
    return 1 - above - np.mean([one.high < truth for one in found]), above


def test_coverage():
    inside, above = coverage(30, trials=200, resamples=500, truth=0.1)
    assert inside >= 0.9  # 95 % less three standard errors
    assert above <= 0.06


@pytest.mark.slow
@pytest.mark.parametrize("groups", [10, 20, 40, 80])
def test_coverage_at_length(groups):
    inside, above = coverage(groups, trials=2000, resamples=1000, truth=0.1)
    assert inside >= (0.90 if groups == 10 else 0.92)
    assert above <= 0.04


def test_p_is_uniform_where_signs_are_chance():
    rng = np.random.default_rng(5)
    p = []
    for trial in range(300):
        differences, groups = grouped(rng, 20)
        flips = rng.choice([-1, 1], 20)
        p.append(paired(differences * flips[groups], groups, resamples=200, seed=trial).p)
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p) <= level) <= level + 3 * np.sqrt(level * (1 - level) / 300)


def test_mean_is_over_clips_and_not_over_groups():
    found = paired(np.array([1.0, 1, 1, 1, 0]), np.array([0, 0, 0, 0, 1]))
    assert (found.mean, found.groups, found.clips) == (0.8, 2, 5)


def test_too_few_groups_for_an_interval():
    few, enough = np.arange(MIN_GROUPS - 1), np.arange(MIN_GROUPS)
    assert paired(np.ones(len(few)), few).low is None
    assert paired(np.ones(len(few)), few).high is None
    assert paired(few % 2.0, few).low is None
    assert paired(enough % 2.0, enough).low is not None


def test_groups_that_agree():
    groups = np.arange(10).repeat(3)
    found = paired(np.ones(30), groups)
    assert (found.mean, found.low, found.high) == (1, 1, 1)
    assert found.p == 2 / 2**10  # all for, or all against
    nothing = paired(np.zeros(30), groups)
    assert (nothing.mean, nothing.low, nothing.high, nothing.p) == (0, 0, 0, 1)


def test_one_group_says_nothing():
    found = paired(np.ones(100), np.zeros(100, int))
    assert (found.mean, found.low, found.p) == (1, None, 1)


def test_groups_not_clips_are_what_varies():
    rng = np.random.default_rng(3)
    few, groups = rng.choice([-1.0, 0, 1], 12), np.arange(12)
    one, copied = paired(few, groups), paired(few.repeat(50), groups.repeat(50))
    assert one.p == copied.p
    assert (copied.low, copied.high) == pytest.approx((one.low, one.high))


@given(st.integers(0, 2**32), st.integers(1, 9))
def test_p_counts_every_pattern_of_signs(seed, groups):
    rng = np.random.default_rng(seed)
    group_of = rng.integers(0, groups, 30)
    differences = rng.integers(-2, 3, 30).astype(float)
    sums = [differences[group_of == one].sum() for one in np.unique(group_of)]
    patterns = [abs(np.dot(signs, sums)) for signs in itertools.product([-1, 1], repeat=len(sums))]
    assert paired(differences, group_of).p == pytest.approx(np.mean(np.array(patterns) >= abs(sum(sums)) - 1e-9))


def test_drawn_signs_agree_with_scipy():
    from scipy.stats import permutation_test

    rng = np.random.default_rng(8)
    differences = rng.normal(0.3, 1, 25)
    theirs = permutation_test(
        (differences, np.zeros(25)),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    )
    assert paired(differences, np.arange(25), resamples=20_000).p == pytest.approx(theirs.pvalue, abs=0.02)


def test_p_is_never_zero():
    assert paired(np.ones(60), np.arange(60), resamples=99).p == 0.01


def test_interval_agrees_with_t_where_that_is_exact():
    from scipy.stats import ttest_1samp

    differences = np.random.default_rng(9).normal(5, 2, 400)
    theirs = ttest_1samp(differences, 0).confidence_interval()
    found = paired(differences, np.arange(400))
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)


@given(st.integers(0, 2**32), st.integers(10, 30))
def test_order_and_names_of_groups_do_not_matter_and_signs_mirror(seed, groups):
    rng = np.random.default_rng(seed)
    differences, group_of = grouped(rng, groups)
    named = np.array([f"take {one:03d}" for one in group_of])
    order = rng.permutation(len(named))
    found = paired(differences, group_of, resamples=100)
    assert paired(differences[order], named[order], resamples=100) == found
    assert found.low <= found.mean <= found.high
    mirrored = paired(-differences, group_of, resamples=100)
    assert (-mirrored.mean, mirrored.p) == pytest.approx((found.mean, found.p))
    assert (-mirrored.high, -mirrored.low) == pytest.approx((found.low, found.high))


def test_many_clips_of_many_groups_in_blocks():
    rng = np.random.default_rng(2)
    groups = np.arange(30_000)
    found = paired(rng.normal(0.1, 1, 30_000), groups, resamples=300)
    assert 0 < found.low < 0.1 < found.high
    assert found.p <= 0.01


def test_shapes_that_do_not_fit():
    for differences, groups in ((np.ones(2), np.ones(3)), (np.ones((2, 2)), np.ones((2, 2))), (np.ones(0), np.ones(0))):
        with pytest.raises(ValueError, match="do not fit"):
            paired(differences, groups)


@pytest.mark.parametrize("trials", [1, 7, 80])
def test_rates_agree_with_scipy(trials):
    from scipy.stats import binomtest

    for successes in range(trials + 1):
        theirs = binomtest(successes, trials).proportion_ci(0.95, "exact")
        assert proportion(successes, trials) == pytest.approx((theirs.low, theirs.high))


def test_rates_that_have_no_interval():
    for successes, trials, confidence in ((0, 0, 0.9), (3, 2, 0.9), (-1, 2, 0.9), (1, 2, 1.0)):
        with pytest.raises(ValueError, match="has no interval"):
            proportion(successes, trials, confidence)


@pytest.mark.parametrize("groups", [1, 7, 40])
def test_a_rate_of_groups_of_one_trial_is_that_of_trials(groups):
    for successes in range(groups + 1):
        each = (np.arange(groups) < successes).astype(int)
        found = grouped_proportion(each, np.ones(groups, int))
        assert found == pytest.approx(proportion(successes, groups))


def test_a_rate_of_groups_that_agree_in_all_trials_is_that_of_groups():
    for successes in range(9):
        each = 30 * (np.arange(8) < successes).astype(int)
        found = grouped_proportion(each, np.full(8, 30))
        assert found == pytest.approx(proportion(successes, 8))


def test_a_rate_of_groups_against_the_formula_step_by_step():
    from scipy.stats import beta, t

    sums, sizes = [1, 0, 4, 2, 0, 3, 1], [9, 12, 15, 10, 8, 20, 5]
    whole, groups = sum(sizes), len(sizes)
    rate = sum(sums) / whole
    spread = sum((one - rate * size) ** 2 for one, size in zip(sums, sizes, strict=True))
    variance = groups / (groups - 1) * spread / whole**2
    worth = rate * (1 - rate) / variance * (t.ppf(0.975, whole - 1) / t.ppf(0.975, groups - 1)) ** 2
    least = whole**2 / sum(size**2 for size in sizes)
    assert whole > worth > least
    low = beta.ppf(0.025, rate * worth, worth - rate * worth + 1)
    high = beta.ppf(0.975, rate * least + 1, least - rate * least)
    assert grouped_proportion(np.array(sums), np.array(sizes)) == pytest.approx((low, high))


def test_a_rate_and_its_opposite_mirror():
    sums, sizes = np.array([1, 0, 4, 2]), np.array([9, 12, 15, 10])
    low, high = grouped_proportion(sums, sizes)
    assert grouped_proportion(sizes - sums, sizes) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("groups", [3, 20, 60])
@pytest.mark.parametrize("rate", [0.03, 0.2, 0.9])
def test_coverage_of_a_rate_of_groups(groups, rate):
    """Each end misses the truth no more often than it says, however alike the trials of a group are."""
    rng = np.random.default_rng(groups)
    for alike in (0.02, 0.3, 0.8):
        ends = []
        for _ in range(300):
            sizes = rng.geometric(1 / 15, groups)
            each = rng.beta(rate * (1 / alike - 1), (1 - rate) * (1 / alike - 1), groups)
            ends.append(grouped_proportion(rng.binomial(sizes, each), sizes))
        low, high = np.array(ends).T
        for misses in (np.mean(low > rate), np.mean(high < rate)):
            assert misses <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 300)


def test_trials_of_a_group_are_not_counted_as_if_apart():
    """60 of 600 windows, all in 2 of 20 files: what is known is known of 20 files."""
    sums = np.where(np.arange(20) < 2, 30, 0)
    low, high = grouped_proportion(sums, np.full(20, 30))
    apart = proportion(60, 600)
    assert low < 0.03 < apart[0]
    assert high > 0.3 > apart[1]


@pytest.mark.parametrize(
    ("successes", "trials"), [([], []), ([1], [0]), ([2], [1]), ([-1], [1]), ([1, 1], [1]), ([[1]], [[1]])]
)
def test_groups_that_have_no_rate(successes, trials):
    with pytest.raises(ValueError, match=r"do not fit|more successes"):
        grouped_proportion(np.array(successes, int), np.array(trials, int))
