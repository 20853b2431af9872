"""Study: a rare class is found as often as a large one, whether the classes differ in more than size or not.

Bounds of 5 clips are a matter of luck, and one cache shows the luck of its 5. So many caches are drawn, each a
trial with clips of its own for everything, and the interval is that of the mean over trials: one over the test clips of
a single cache would leave the luck out, and be too narrow.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from scipy import stats

from tests.support import uneven_classes

pytestmark = pytest.mark.no_cover  # the package has tests of its own

TESTED = 150


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


def recalls(cache, seed, train, validation, *, network=False, apart=0.0, **wanted):
    """Recall of each class on new clips, by the rule and by the smallest Δ̄."""
    classes = len(train)
    source = uneven_classes.Source(seed, classes, apart)
    uneven_classes.write(cache, source, train, validation, network=network)
    rule = uneven_classes.decided(cache, **wanted)
    labels = np.repeat(np.arange(classes), TESTED)
    logits = source.rng.normal(size=(len(labels), classes)) if network else None
    judged = rule.judge(source.draw(labels), logits)
    smallest = rule.choose(judged.deviations, logits)
    return [[(v.label[labels == c] == c).mean() for c in range(classes)] for v in (judged.choice, smallest)]


def interval(values):
    """95 % interval of a mean over trials that do not hang together."""
    reach = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return np.mean(values) - reach, np.mean(values) + reach


CASES = pytest.mark.parametrize(
    ("train", "validation", "network"),
    [
        pytest.param([5, 500], [5, 500], False, id="in proportion"),
        pytest.param([5, 500], [5, 500], True, id="in proportion, a network that says nothing"),
        pytest.param([5, 500], [100, 100], True, id="plenty, a network that says nothing"),
        pytest.param([500, 5], [100, 1], False, id="one validation clip"),
    ],
)


@pytest.mark.parametrize("trials", [12, pytest.param(100, marks=pytest.mark.slow)])
@CASES
def test_of_one_distribution_the_rare_class_is_found_as_often(tmp_path, train, validation, network, trials):
    found = np.array([recalls(tmp_path / str(n), n, train, validation, network=network)[0] for n in range(trials)])
    rare, large = found[:, np.argsort(train)].T
    low, high = interval(rare - large)
    print(f"recall {rare.mean():.3f} and {large.mean():.3f}, difference {low:+.3f} to {high:+.3f}, {trials} trials")
    assert low < 0 < high
    assert high - low < 2 / np.sqrt(trials)
    # and no cache has the bad luck of losing the class
    assert rare.min() > 0.05


@pytest.mark.parametrize("network", [False, True], ids=["no network", "a network that says nothing"])
def test_what_is_not_levelled_would_fail_that(tmp_path, network):
    settings = {"network": network, "class_size": "ignore"}
    found = np.array([recalls(tmp_path / str(n), n, [5, 500], [5, 500], **settings)[0] for n in range(4)])
    assert interval(found[:, 0] - found[:, 1])[1] < -0.9


@pytest.mark.parametrize("validation", [[5, 20, 100, 500], [60, 60, 60, 60]], ids=["in proportion", "plenty"])
def test_of_one_distribution_no_size_is_lost(tmp_path, validation):
    """The correction makes pairs of classes equal; among four classes, recall is therefore near 1/4 but not exactly."""
    found = np.array([recalls(tmp_path / str(n), n, [5, 20, 100, 500], validation)[0] for n in range(8)])
    low, high = interval(found[:, 0] - found[:, -1])
    assert low < 0 < high
    assert 0.15 < found.mean(axis=0).min() < found.mean(axis=0).max() < 0.35


@pytest.mark.parametrize("validation", [[5, 500, 500], [60, 60, 60]], ids=["in proportion", "plenty"])
def test_classes_that_differ_are_found_whatever_their_size(tmp_path, validation):
    train = [5, 500, 500]
    found = np.array([recalls(tmp_path / str(n), n, train, validation, apart=0.3)[0] for n in range(3)])
    assert found[:, 0].min() > 0.8
    assert found[:, 1:].mean() > 0.85
    # by single channels alone the class would be lost; what layers say together makes up for sizes by itself
    _, smallest = recalls(tmp_path / "smallest", 0, train, validation, apart=0.3)
    assert smallest[0] < 0.05


def test_the_smallest_deviation_is_not_levelled(tmp_path):
    """As in the paper: the rule gram goes by Δ̄, and bounds of 5 clips are always left the furthest."""
    rule, smallest = recalls(tmp_path, 0, [5, 500], [100, 100], apart=0.3, rule="gram")
    assert rule == smallest
    assert rule[0] < 0.1 < 0.9 < rule[1]


def test_a_uniform_prior_does_not_make_the_large_class_vanish(tmp_path):
    """The layers take classes to be equally frequent already, so nothing is to be undone."""
    source = uneven_classes.Source(0, 2, 0.3)
    uneven_classes.write(tmp_path, source, [5, 500], [5, 500])
    rule = uneven_classes.decided(tmp_path)
    some = source.draw(np.repeat([0, 1], 100))
    plain, uniform = rule.judge(some, None), rule.judge(some, None, np.ones(2))
    np.testing.assert_allclose(uniform.log_p, plain.log_p)
    moved = rule.judge(some, None, np.array([0.2, 0.8]))
    np.testing.assert_allclose(np.diff(moved.log_p) - np.diff(plain.log_p), np.log(4))
