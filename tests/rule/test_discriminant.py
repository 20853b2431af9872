"""The discriminant compared with its formula, with classes of different sizes and with unusual clips."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.fitting.conditional_logit import log_softmax
from gramcli.fitting.cross_fitting import LabelledClips, deal_parts
from gramcli.fitting.temperature import UNIFORM_SHARE
from gramcli.rule import discriminant
from tests import reference

LAYERS = {"early": 30, "late": 50}


def draw(rng, labels, centres):
    """Draws ĝ of clips. Their logarithms vary about the centre of their class, with correlated channels."""
    found = {}
    for layer, channels in LAYERS.items():
        shared = rng.normal(size=(len(labels), 3)) @ rng.normal(size=(3, channels))
        found[layer] = np.exp(
            3 + centres[layer][labels] + 0.3 * shared + 0.2 * rng.normal(size=(len(labels), channels))
        )
    return {layer: values.astype(np.float32) for layer, values in found.items()}


def centres(rng, classes, apart=0.3):
    return {layer: apart * rng.normal(size=(classes, channels)) for layer, channels in LAYERS.items()}


class Data:
    def __init__(self, seed=0, sizes=(30, 30, 30), validation=15, test=60, apart=0.3):
        rng = np.random.default_rng(seed)
        middle = centres(rng, len(sizes), apart)
        if apart == 0:
            middle = {layer: values * 0 for layer, values in middle.items()}
        each = np.arange(len(sizes))
        held = np.repeat(each, np.maximum(1, np.array(sizes) * validation // max(sizes)))
        self.labels = np.concatenate([np.repeat(each, sizes), held])
        self.part_of = np.concatenate([np.full(sum(sizes), -1), deal_parts(np.arange(len(held)), held)])
        self.truth = np.repeat(each, test)
        self.rows, self.more = draw(rng, self.labels, middle), draw(rng, self.truth, middle)
        self.classes = len(sizes)

    def fit(self):
        return discriminant.fit(self.rows, LabelledClips(self.labels, self.part_of, self.classes))


@pytest.fixture(scope="module")
def data():
    return Data()


@pytest.mark.parametrize("sizes", [(30, 30, 30), (8, 20, 60)], ids=["of one size", "uneven"])
def test_it_equals_the_formula(sizes, monkeypatch):
    data = Data(sizes=sizes)
    for shrinkage in (0.1, 0.5):
        monkeypatch.setattr(discriminant, "SHRINKAGES", (shrinkage,))
        fitted = data.fit()
        found = fitted.discriminant.log_probabilities(data.more)
        wanted = reference.discriminant(data.rows, data.labels, data.part_of, data.more, data.classes, shrinkage)
        probability = np.exp(log_softmax(fitted.inverse_temperature * wanted))
        np.testing.assert_allclose(found, np.log((1 - UNIFORM_SHARE) * probability + UNIFORM_SHARE / 3), atol=2e-4)


def test_held_out_clips_show_the_likelihood_of_new_clips(data):
    fitted = data.fit()
    log_q = fitted.discriminant.log_probabilities(data.more)
    assert (log_q.argmax(axis=1) == data.truth).mean() > 0.9
    held = data.part_of >= 0
    assert fitted.held_out.shape == (held.sum(), 3)
    np.testing.assert_allclose(np.exp(log_q).sum(axis=1), 1)
    expected = -fitted.held_out[np.arange(held.sum()), data.labels[held]].mean()
    assert expected == pytest.approx(-log_q[np.arange(len(log_q)), data.truth].mean(), abs=0.25)


def test_without_differences_between_classes_accuracy_is_at_chance():
    found = Data(seed=2, apart=0, test=300)
    log_q = found.fit().discriminant.log_probabilities(found.more)
    assert (log_q.argmax(axis=1) == found.truth).mean() == pytest.approx(1 / 3, abs=0.06)
    assert -log_q[np.arange(len(log_q)), found.truth].mean() < np.log(3) + 0.1


def test_the_labels_of_a_part_do_not_change_its_held_out_scores(data, monkeypatch):
    monkeypatch.setattr(discriminant, "SHRINKAGES", (0.5,))
    # one temperature is from all parts together
    monkeypatch.setattr(discriminant, "fit_inverse_temperature", lambda *_: 0.01)
    part = data.part_of == 0
    moved = np.where(part, (data.labels + 1) % 3, data.labels)
    one, two = (
        discriminant.fit(data.rows, LabelledClips(labels, data.part_of, 3)).held_out for labels in (data.labels, moved)
    )
    own = part[data.part_of >= 0]
    # classes are of one size, so that κ plays no part
    np.testing.assert_allclose(two[own], one[own], rtol=1e-6, atol=1e-9)
    assert not np.allclose(one[~own], two[~own])


def test_the_order_of_clips_does_not_matter(data):
    order = np.random.default_rng(1).permutation(len(data.labels))
    one = data.fit()
    clips = LabelledClips(data.labels[order], data.part_of[order], 3)
    two = discriminant.fit({layer: rows[order] for layer, rows in data.rows.items()}, clips)
    np.testing.assert_allclose(
        two.discriminant.log_probabilities(data.more), one.discriminant.log_probabilities(data.more), atol=1e-4
    )


def test_a_clip_s_result_does_not_depend_on_the_others(data):
    fitted = data.fit().discriminant
    whole = fitted.log_probabilities(data.more)
    for some in (slice(0, 1), slice(3, 5), slice(7, 40)):
        part = fitted.log_probabilities({layer: rows[some] for layer, rows in data.more.items()})
        np.testing.assert_array_equal(part, whole[some])


def recalls(found, log_q):
    return np.array([(log_q[found.truth == c].argmax(axis=1) == c).mean() for c in range(found.classes)])


def test_a_rare_class_of_the_same_sounds_is_neither_lost_nor_preferred(monkeypatch):
    kept, without = [], []
    for seed in range(6):
        found = Data(seed=10 + seed, sizes=(6, 300), validation=100, test=200, apart=0)
        kept.append(recalls(found, found.fit().discriminant.log_probabilities(found.more)))
        with monkeypatch.context() as patched:
            patched.setattr(
                discriminant._WhitenedMeans, "own_distances", lambda means, new, labels: np.zeros(len(labels))
            )
            without.append(recalls(found, found.fit().discriminant.log_probabilities(found.more)))
    assert np.mean(without, axis=0)[0] < 0.25
    assert abs(np.mean(kept, axis=0)[0] - 0.5) < 0.2


def test_a_rare_class_that_differs_is_found():
    found = Data(seed=20, sizes=(5, 200, 200), validation=60)
    assert recalls(found, found.fit().discriminant.log_probabilities(found.more)).min() > 0.8


@given(st.integers(0, 2**32), st.sampled_from(["plain", "zero layer", "constant channel", "one clip", "equal clips"]))
def test_unusual_descriptors_give_finite_probabilities(seed, odd):
    rng = np.random.default_rng(seed)
    labels = np.array([0, 0, 1, 1, 2, 0, 1, 2, 2, 0])
    part_of = np.array([-1] * 6 + [0, 1, 2, 3])
    rows = {layer: rng.gamma(1, 10, (10, 4)).astype(np.float32) for layer in LAYERS}
    if odd == "zero layer":
        rows["early"][:] = 0
    if odd == "constant channel":
        rows["early"][:, 1] = 7
    if odd == "one clip":
        labels = np.array([0, 0, 0, 0, 1, 0, 1, 0, 0, 0])
    if odd == "equal clips":
        rows = {layer: np.ones_like(values) for layer, values in rows.items()}
    fitted = discriminant.fit(rows, LabelledClips(labels, part_of, 4))
    for log_q in (fitted.held_out, fitted.discriminant.log_probabilities(rows)):
        assert np.isfinite(log_q).all()
        np.testing.assert_allclose(np.exp(log_q).sum(axis=1), 1, rtol=1e-6)
        assert (log_q[:, 3] < -10).all()  # of a class without clips


def test_too_few_parts_and_numbers_that_are_not_finite_are_refused(data):
    with pytest.raises(ValueError, match="2 parts of validation clips"):
        LabelledClips(data.labels, np.minimum(data.part_of, 0), 3)
    broken = {layer: rows.copy() for layer, rows in data.rows.items()}
    broken["late"][0, 0] = np.nan
    with pytest.raises(ValueError, match="expected finite descriptors of at least one clip in late"):
        discriminant.fit(broken, LabelledClips(data.labels, data.part_of, 3))


def test_blocks_of_classes_give_the_same_discriminant(monkeypatch):
    data = Data(sizes=(6, 0, 9, 12, 5))
    whole = data.fit().discriminant
    wanted = whole.log_probabilities(data.more)
    monkeypatch.setattr(discriminant, "_BLOCK", 100)  # two or three classes of a layer
    np.testing.assert_allclose(whole.log_probabilities(data.more), wanted, rtol=1e-9)
    of_blocks = data.fit().discriminant
    for layer, weights in whole.weights.items():
        np.testing.assert_allclose(of_blocks.weights[layer], weights, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(of_blocks.bias, whole.bias, rtol=1e-9)
