"""The size correction compared with plain loops, and the rule fused where classes differ in size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.fitting.cross_fitting import LabelledClips, deal_parts
from gramcli.rule import fusion
from gramcli.rule.class_size import MIN_FREEDOM, SizeCorrection, fit
from gramcli.rule.novelty import strangeness
from gramcli.rule.subsample import subsample_sizes
from tests import reference

COUNTS = st.lists(st.integers(1, 400), min_size=1, max_size=6).map(np.array)


def random_evidence(rng, counts, validation, layers=3, spread=1.0):
    """Returns evidence, labels and sizes. Evidence falls with the size of a subsample, and so does its spread."""
    sizes, labels = subsample_sizes(counts), np.repeat(np.arange(len(counts)), validation)
    logged = np.log(np.maximum(sizes, 1))[labels][:, None]
    noise = rng.normal(size=(len(labels), layers, sizes.shape[1]))
    return spread * noise * (2 - 0.2 * logged) - logged, labels, sizes


@given(COUNTS, st.integers(0, 2**32), st.data())
def test_it_equals_the_reference(counts, seed, data):
    validation = data.draw(st.lists(st.integers(0, 6), min_size=len(counts), max_size=len(counts)))
    evidence, labels, sizes = random_evidence(np.random.default_rng(seed), counts, validation)
    found = fit(evidence, labels, sizes, counts)
    assert found.scale.shape == found.shift.shape == (3, len(counts))
    if sizes.size:
        wanted = reference.size_correction(evidence, labels.tolist(), sizes.tolist(), counts.tolist())
        np.testing.assert_allclose(np.stack([found.scale, found.shift], axis=-1), wanted, rtol=1e-9, atol=1e-9)


@given(COUNTS, st.integers(0, 2**32))
def test_evidence_of_the_largest_class_does_not_change(counts, seed):
    rng = np.random.default_rng(seed)
    found = fit(*random_evidence(rng, counts, [5] * len(counts)), counts)
    evidence = rng.normal(size=(4, 3, len(counts)))
    largest = counts.argmax()
    assert found.apply(evidence)[:, :, largest].tobytes() == evidence[:, :, largest].tobytes()


@given(st.integers(1, 500), st.integers(1, 5), st.integers(0, 2**32))
def test_classes_of_equal_size_are_not_corrected(count, classes, seed):
    counts = np.full(classes, count)
    found = fit(*random_evidence(np.random.default_rng(seed), counts, [3] * classes), counts)
    assert (found.scale == 1).all()
    assert (found.shift == 0).all()


@given(COUNTS, st.integers(0, 2**32))
def test_the_order_of_clips_does_not_matter(counts, seed):
    rng = np.random.default_rng(seed)
    evidence, labels, sizes = random_evidence(rng, counts, [7] * len(counts))
    order = rng.permutation(len(labels))
    one, other = fit(evidence, labels, sizes, counts), fit(evidence[order], labels[order], sizes, counts)
    np.testing.assert_allclose(one.scale, other.scale, rtol=1e-9)
    np.testing.assert_allclose(one.shift, other.shift, rtol=1e-9, atol=1e-9)


@given(COUNTS, st.integers(0, 2**32), st.sampled_from([0.0, 1e-300, 1e-16, 1e-7, 1.0, 1e6]), st.data())
def test_unusual_evidence_gives_finite_corrections(counts, seed, spread, data):
    """Constant evidence, spreads of rounding, huge spreads, and classes without validation clips."""
    rng = np.random.default_rng(seed)
    validation = data.draw(st.lists(st.integers(0, 9), min_size=len(counts), max_size=len(counts)))
    evidence, labels, sizes = random_evidence(rng, counts, validation, spread=spread)
    evidence[:, 1] = np.log(0.1)  # inside all bounds, always
    evidence[:, 2][rng.random(evidence[:, 2].shape) < 0.9] = np.log(0.1)
    found = fit(evidence, labels, sizes, counts)
    assert np.isfinite(found.scale).all()
    assert np.isfinite(found.shift).all()
    assert (found.scale > 0).all()
    assert (found.scale[1] == 1).all()


def test_a_class_with_other_mean_evidence_does_not_change_the_spread(rng):
    counts = np.array([5, 50, 500])
    evidence, labels, sizes = random_evidence(rng, counts, [9, 9, 9])
    moved = evidence + np.array([0.0, 4.0, -3.0])[labels][:, None, None]
    np.testing.assert_allclose(
        fit(moved, labels, sizes, counts).scale, fit(evidence, labels, sizes, counts).scale, rtol=1e-12
    )


def test_corrected_evidence_has_mean_and_spread_of_the_largest_class(rng):
    counts = np.array([5, 500])
    evidence, labels, sizes = random_evidence(rng, counts, [5, 4000], layers=1)
    found = fit(evidence, labels, sizes, counts)
    own, drawn = evidence[labels == 1][:, 0], sizes[1] == 5
    corrected = found.scale[0, 0] * own[:, drawn] + found.shift[0, 0]
    assert np.median(corrected - own[:, ~drawn]) == pytest.approx(0, abs=1e-9)
    assert corrected.mean() == pytest.approx(own[:, ~drawn].mean(), abs=0.02)
    assert corrected.std(axis=0).mean() == pytest.approx(own[:, ~drawn].std(), rel=0.01)


def test_few_clips_do_not_correct_the_spread(rng):
    counts = np.array([5, 500])
    for clips in (MIN_FREEDOM, MIN_FREEDOM + 1):  # one more than degrees of freedom
        found = fit(*random_evidence(rng, counts, [3, clips]), counts)
        assert (found.scale[:, 0] == 1).all() == (clips == MIN_FREEDOM)
        assert (found.shift[:, 0] != 0).all()


def test_without_validation_clips_of_larger_classes_nothing_is_corrected(rng):
    counts = np.array([5, 500])
    found = fit(*random_evidence(rng, counts, [9, 0]), counts)
    assert (found.scale == 1).all()
    assert (found.shift == 0).all()


def test_strangeness_uses_corrected_evidence(rng):
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


def fitted(rng, uneven, *, bias=0.0, frequencies=(8, 300), network=None):
    """Fits the rule on two classes, one of them rare. One layer favours the second class in every clip, by `bias`."""
    labels = np.repeat([0, 1], frequencies)
    deviations = rng.lognormal(size=(len(labels), 2, 2))
    deviations[:, 0, 0] *= np.exp(bias)
    log_p = None if network is None else fusion.log_softmax(network * np.eye(2)[labels] + np.log(frequencies))
    evidence = fusion.evidence(deviations, np.ones(2))
    clips = LabelledClips(labels, deal_parts(np.arange(len(labels)), labels), 2)
    return fusion.choose(lambda mask, rows: evidence[rows], clips, uneven=uneven, log_p=log_p).fusion


def test_a_layer_gets_no_weight_for_class_frequencies(rng):
    biased = fitted(rng, False, bias=1.0)
    assert biased.weights[0] > 0.5
    assert fitted(rng, True, bias=1.0).weights[0] < 0.3 * biased.weights[0]


def test_a_network_that_knows_the_class_frequencies_gets_weight(rng):
    assert fitted(rng, True, network=3.0).network_weight > 0.7


def test_layers_without_information_still_break_ties(rng):
    corrected = fitted(rng, True, bias=-1.0)
    assert (corrected.weights > 0).all()
    scores = corrected.scores(fusion.evidence(rng.lognormal(size=(200, 2, 2)), np.ones(2)))
    assert 0.2 < (scores[:, 0] > scores[:, 1]).mean() < 0.8


@pytest.mark.parametrize("uneven", [False, True])
def test_evidence_of_few_clips_at_a_time_gives_the_same_rule(rng, monkeypatch, uneven):
    before = rng.bit_generator.state
    whole = fitted(rng, uneven, network=1.0)
    rng.bit_generator.state = before
    monkeypatch.setattr(fusion, "BLOCK", 4)
    of_blocks = fitted(rng, uneven, network=1.0)
    np.testing.assert_array_equal(of_blocks.weights, whole.weights)
    assert (of_blocks.network_weight, of_blocks.ridge) == (whole.network_weight, whole.ridge)
