"""What evidence owes to the size of a class, beside a loop, and the rule that is fitted where classes differ in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.fitting.cross_fitting import deal_parts
from gramcli.rule import fusion
from gramcli.rule.class_size import LEAST, SizeCorrection, learn
from gramcli.rule.novelty import strangeness
from gramcli.rule.subsample import subsample_sizes
from tests import reference

COUNTS = st.lists(st.integers(1, 400), min_size=1, max_size=6).map(np.array)


def spoken(rng, counts, validation, layers=3, spread=1.0):
    """Evidence that falls with the size of a subsample, and spreads less; (evidence, labels, sizes)."""
    sizes, labels = subsample_sizes(counts), np.repeat(np.arange(len(counts)), validation)
    logged = np.log(np.maximum(sizes, 1))[labels][:, None]
    noise = rng.normal(size=(len(labels), layers, sizes.shape[1]))
    return spread * noise * (2 - 0.2 * logged) - logged, labels, sizes


@given(COUNTS, st.integers(0, 2**32), st.data())
def test_it_is_that_of_the_loop(counts, seed, data):
    validation = data.draw(st.lists(st.integers(0, 6), min_size=len(counts), max_size=len(counts)))
    evidence, labels, sizes = spoken(np.random.default_rng(seed), counts, validation)
    found = learn(evidence, labels, sizes, counts)
    assert found.scale.shape == found.shift.shape == (3, len(counts))
    if sizes.size:
        wanted = reference.levelling(evidence, labels.tolist(), sizes.tolist(), counts.tolist())
        np.testing.assert_allclose(np.stack([found.scale, found.shift], axis=-1), wanted, rtol=1e-9, atol=1e-9)


@given(COUNTS, st.integers(0, 2**32))
def test_the_largest_class_keeps_every_bit(counts, seed):
    rng = np.random.default_rng(seed)
    found = learn(*spoken(rng, counts, [5] * len(counts)), counts)
    evidence = rng.normal(size=(4, 3, len(counts)))
    largest = counts.argmax()
    assert found.apply(evidence)[:, :, largest].tobytes() == evidence[:, :, largest].tobytes()


@given(st.integers(1, 500), st.integers(1, 5), st.integers(0, 2**32))
def test_classes_of_equal_size_are_left_alone(count, classes, seed):
    counts = np.full(classes, count)
    found = learn(*spoken(np.random.default_rng(seed), counts, [3] * classes), counts)
    assert (found.scale == 1).all()
    assert (found.shift == 0).all()


@given(COUNTS, st.integers(0, 2**32))
def test_the_order_of_clips_does_not_matter(counts, seed):
    rng = np.random.default_rng(seed)
    evidence, labels, sizes = spoken(rng, counts, [7] * len(counts))
    order = rng.permutation(len(labels))
    one, other = learn(evidence, labels, sizes, counts), learn(evidence[order], labels[order], sizes, counts)
    np.testing.assert_allclose(one.scale, other.scale, rtol=1e-9)
    np.testing.assert_allclose(one.shift, other.shift, rtol=1e-9, atol=1e-9)


@given(COUNTS, st.integers(0, 2**32), st.sampled_from([0.0, 1e-300, 1e-16, 1e-7, 1.0, 1e6]), st.data())
def test_nothing_but_numbers_comes_of_odd_evidence(counts, seed, spread, data):
    """Constant evidence, spreads of rounding, huge spreads, and classes without validation clips."""
    rng = np.random.default_rng(seed)
    validation = data.draw(st.lists(st.integers(0, 9), min_size=len(counts), max_size=len(counts)))
    evidence, labels, sizes = spoken(rng, counts, validation, spread=spread)
    evidence[:, 1] = np.log(0.1)  # inside all bounds, always
    evidence[:, 2][rng.random(evidence[:, 2].shape) < 0.9] = np.log(0.1)
    found = learn(evidence, labels, sizes, counts)
    assert np.isfinite(found.scale).all()
    assert np.isfinite(found.shift).all()
    assert (found.scale > 0).all()
    assert (found.scale[1] == 1).all()


def test_a_class_of_another_level_does_not_disturb_the_spread(rng):
    counts = np.array([5, 50, 500])
    evidence, labels, sizes = spoken(rng, counts, [9, 9, 9])
    moved = evidence + np.array([0.0, 4.0, -3.0])[labels][:, None, None]
    np.testing.assert_allclose(
        learn(moved, labels, sizes, counts).scale, learn(evidence, labels, sizes, counts).scale, rtol=1e-12
    )


def test_levelled_evidence_has_mean_and_spread_of_the_largest_class(rng):
    counts = np.array([5, 500])
    evidence, labels, sizes = spoken(rng, counts, [5, 4000], layers=1)
    found = learn(evidence, labels, sizes, counts)
    own, drawn = evidence[labels == 1][:, 0], sizes[1] == 5
    level = found.scale[0, 0] * own[:, drawn] + found.shift[0, 0]
    assert np.median(level - own[:, ~drawn]) == pytest.approx(0, abs=1e-9)
    assert level.mean() == pytest.approx(own[:, ~drawn].mean(), abs=0.02)
    assert level.std(axis=0).mean() == pytest.approx(own[:, ~drawn].std(), rel=0.01)


def test_few_clips_teach_no_spread(rng):
    counts = np.array([5, 500])
    for clips in (LEAST, LEAST + 1):  # one more than degrees of freedom
        found = learn(*spoken(rng, counts, [3, clips]), counts)
        assert (found.scale[:, 0] == 1).all() == (clips == LEAST)
        assert (found.shift[:, 0] != 0).all()


def test_without_clips_of_larger_classes_nothing_is_known(rng):
    counts = np.array([5, 500])
    found = learn(*spoken(rng, counts, [9, 0]), counts)
    assert (found.scale == 1).all()
    assert (found.shift == 0).all()


def test_strangeness_is_that_of_corrected_evidence(rng):
    deviations, expected = rng.exponential(size=(6, 2, 3)), np.array([1.0, 2.0])
    correction = SizeCorrection(rng.uniform(0.5, 2, (2, 3)), rng.normal(size=(2, 3)))
    for n, found in enumerate(strangeness(fusion.evidence(deviations, expected, correction))):
        far = [
            np.mean([
                correction.scale[layer, c] * np.log(0.1 + deviations[n, layer, c] / expected[layer])
                + correction.shift[layer, c]
                for layer in range(2)
            ])
            for c in range(3)
        ]  # fmt: skip
        assert found == pytest.approx(min(far))


def fitted(rng, uneven, *, tell=0.0, frequencies=(8, 300), network=None):
    """Fits the rule on two classes of which one is rare; a layer takes every clip for the second class by `tell`."""
    labels = np.repeat([0, 1], frequencies)
    deviations = rng.lognormal(size=(len(labels), 2, 2))
    deviations[:, 0, 0] *= np.exp(tell)
    log_p = None if network is None else fusion.log_softmax(network * np.eye(2)[labels] + np.log(frequencies))
    support = fusion.evidence(deviations, np.ones(2))
    part_of = deal_parts(np.arange(len(labels)), labels)
    return fusion.choose(lambda clips: support, labels, part_of, uneven=uneven, log_p=log_p).fusion


def test_how_rare_a_class_is_does_not_make_a_layer_speak_against_it(rng):
    tempted = fitted(rng, False, tell=1.0)
    assert tempted.weights[0] > 0.5
    assert fitted(rng, True, tell=1.0).weights[0] < 0.3 * tempted.weights[0]


def test_a_network_that_knows_the_frequencies_is_believed(rng):
    assert fitted(rng, True, network=3.0).trust > 0.7


def test_layers_that_taught_nothing_still_decide_what_would_be_a_tie(rng):
    levelled = fitted(rng, True, tell=-1.0)
    assert (levelled.weights > 0).all()
    scores = levelled.scores(fusion.evidence(rng.lognormal(size=(200, 2, 2)), np.ones(2)))
    assert 0.2 < (scores[:, 0] > scores[:, 1]).mean() < 0.8
