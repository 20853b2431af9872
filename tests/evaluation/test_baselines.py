from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest

from gramcli.errors import ResourceError
from gramcli.evaluation import baselines
from gramcli.evaluation.spaces import Spaces
from gramcli.fitting import temperature
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.fitting.cross_fitting import LabelledClips, deal_parts
from gramcli.metrics.classification import accuracy, negative_log_likelihood

CLASSES = 4


class Data:
    """Clips whose layers separate four classes, and a network that is too confident and often wrong."""

    def __init__(self, seed=1, *, telling=0.8, right=0.6, training=80, validation=60, test=200, classes=CLASSES):
        rng = np.random.default_rng(seed)
        count = training + validation + test
        self.labels = np.arange(count) % classes
        means = {layer: rng.normal(0, telling, (classes, width)) for layer, width in (("early", 30), ("late", 90))}
        rows = {layer: np.exp(rng.normal(mean[self.labels], 2)) for layer, mean in means.items()}
        predicted = np.where(rng.random(count) < right, self.labels, rng.integers(0, classes, count))
        log_p = log_softmax(8 * np.eye(classes)[predicted] + rng.normal(size=(count, classes)))
        seen = training + validation
        self.log_p, self.more_log_p = log_p[:seen], log_p[seen:]
        self.truth, self.more_truth = self.labels[:seen], self.labels[seen:]
        self.part_of = np.full(seen, -1)
        self.part_of[training:] = deal_parts(np.arange(validation), self.truth[training:])
        self.rows = {layer: row[:seen] for layer, row in rows.items()}
        self.spaces = Spaces.fit(self.rows, self.part_of < 0)
        self.more = self.spaces.of({layer: row[seen:] for layer, row in rows.items()})

    def labelled(self, labels=None, classes=CLASSES):
        return LabelledClips(self.truth if labels is None else labels, self.part_of, classes)

    def fit(self, name):
        return baselines.fit(name, self.spaces.fitted, self.labelled(), self.log_p)


@pytest.fixture(scope="module")
def data():
    return Data()


@pytest.mark.parametrize("name", baselines.NAMES)
def test_probabilities_are_right_and_better_than_the_network(data, name):
    baseline = data.fit(name)
    log_q = baseline.log_probabilities(data.more, data.more_log_p)
    assert np.exp(log_q).sum(axis=1) == pytest.approx(np.ones(len(log_q)))
    assert negative_log_likelihood(log_q, data.more_truth) < negative_log_likelihood(data.more_log_p, data.more_truth)
    network = accuracy(data.more_log_p.argmax(axis=1), data.more_truth)
    own = accuracy(log_q.argmax(axis=1), data.more_truth)
    assert own >= network - 0.02
    if name in (baselines.LDA, baselines.PROBE, baselines.NEAREST_MEAN):
        assert own > network + 0.1
    held = data.part_of >= 0
    assert baseline.held_out.shape == (held.sum(), CLASSES)
    # what was held out predicts what new clips show
    expected = negative_log_likelihood(baseline.held_out, data.truth[held])
    assert expected == pytest.approx(negative_log_likelihood(log_q, data.more_truth), abs=0.35)


@pytest.mark.parametrize("name", baselines.NAMES)
def test_the_labels_of_a_part_do_not_change_its_held_out_scores(data, name, monkeypatch):
    choice = next(iter(baselines._choices(name, ["log"])))
    monkeypatch.setattr(baselines, "_choices", lambda *_: [choice])
    monkeypatch.setattr(baselines, "fit_inverse_temperature", lambda *_: 1.0)
    monkeypatch.setattr(baselines, "pool_weights", lambda *_: (0.5, 0.5))
    part = data.part_of == 0
    changed = np.where(part, (data.truth + 1) % CLASSES, data.truth)
    one, two = (
        baselines.fit(name, data.spaces.fitted, data.labelled(labels), data.log_p).held_out
        for labels in (data.truth, changed)
    )
    own = part[data.part_of >= 0]
    assert np.array_equal(one[own], two[own])
    assert not np.array_equal(one[~own], two[~own])


def test_without_differences_between_classes_accuracy_is_at_chance():
    found = Data(3, telling=0, right=0, test=400)
    for name in baselines.NAMES:
        log_q = found.fit(name).log_probabilities(found.more, found.more_log_p)
        assert accuracy(log_q.argmax(axis=1), found.more_truth) == pytest.approx(1 / CLASSES, abs=0.1)
        assert negative_log_likelihood(log_q, found.more_truth) < np.log(CLASSES) + 0.15


def test_lda_equals_the_formula_with_the_covariance_of_all_features(data):
    from sklearn.covariance import LedoitWolf

    points = data.spaces.standards["log"].apply(data.rows).astype(float)
    means = np.array([points[data.truth == one].mean(axis=0) for one in range(CLASSES)])
    precision = LedoitWolf(assume_centered=True).fit(points - means[data.truth]).precision_
    far = points[:, None] - means
    direct = -np.einsum("ncd,de,nce->nc", far, precision, far) / 2
    rotated = data.spaces.fitted["log"]
    found = baselines._lda(baselines._Clips.of(rotated, data.labelled(), None), None)(rotated.values, None)
    assert found - found[:, :1] == pytest.approx(direct - direct[:, :1], abs=2e-2, rel=1e-3)


def test_the_probe_on_coordinates_equals_the_probe_on_all_features(data):
    from sklearn.linear_model import LogisticRegression

    points = data.spaces.standards["log"].apply(data.rows) / np.sqrt(120)
    theirs = LogisticRegression(C=3, max_iter=3000, tol=1e-8).fit(points, data.truth).predict_log_proba(points)
    clips = baselines._Clips.of(data.spaces.fitted["log"], data.labelled(), None)
    assert baselines._probe(clips, 3)(clips.points, None) == pytest.approx(theirs, abs=0.01)


@pytest.mark.parametrize("k", [1, 4, 500])
def test_neighbours_vote(data, k):
    from sklearn.neighbors import KNeighborsClassifier

    clips = baselines._Clips.of(data.spaces.fitted["log"], data.labelled(), None)
    known, new = clips.points, data.more["log"].values
    k = min(k, len(known))
    share = KNeighborsClassifier(k).fit(known, data.truth).predict_proba(new)
    found = np.exp(baselines._neighbours(clips, k)(new, None)) - 1 / CLASSES
    assert found == pytest.approx(share * k, abs=2e-3 * k)


def test_the_temperature_that_scaled_the_logits_is_found():
    rng = np.random.default_rng(6)
    logits = rng.normal(0, 2, (6000, 5))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    for factor in (0.01, 1, 300):
        assert temperature.fit_inverse_temperature(logits * factor, labels) == pytest.approx(1 / factor, rel=0.1)


def test_vector_scaling_finds_a_shift_that_one_temperature_cannot():
    rng = np.random.default_rng(6)
    logits, shift = rng.normal(0, 1, (3000, 3)), np.array([2, 0, -2])
    labels = (logits + shift + rng.gumbel(size=logits.shape)).argmax(axis=1)
    log_p = log_softmax(logits)
    part_of = np.arange(3000) % 5
    vector = baselines.fit(baselines.VECTOR, {}, LabelledClips(labels, part_of, 3), log_p).log_probabilities({}, log_p)
    plain = log_softmax(log_p * temperature.fit_inverse_temperature(log_p, labels))
    losses = [negative_log_likelihood(one, labels) for one in (vector, plain)]
    assert losses[0] < losses[1] - 0.3
    assert losses[0] == pytest.approx(negative_log_likelihood(log_softmax(logits + shift), labels), abs=0.01)


def test_layers_without_information_do_not_harm_a_good_network():
    found = Data(4, telling=0, right=0.95)
    log_q = found.fit(baselines.PROBE_AND_NETWORK).log_probabilities(found.more, found.more_log_p)
    assert accuracy(log_q.argmax(axis=1), found.more_truth) >= accuracy(
        found.more_log_p.argmax(axis=1), found.more_truth
    )


@pytest.mark.parametrize("name", baselines.NAMES)
def test_classes_without_clips_get_the_smallest_probability(data, name):
    some = data.truth < 2
    part_of = np.where(some, data.part_of, -1)[some]
    held = {kind: type(one)(one.values[some], one.features) for kind, one in data.spaces.fitted.items()}
    baseline = baselines.fit(name, held, LabelledClips(data.truth[some], part_of, CLASSES), data.log_p[some])
    log_q = baseline.log_probabilities(data.more, data.more_log_p)
    assert np.isfinite(log_q).all()
    assert log_q.min() >= np.log(temperature.UNIFORM_SHARE / CLASSES) - 1e-9
    if name not in baselines.NEEDS_NETWORK:
        assert np.exp(log_q[:, 2:]).max() <= temperature.UNIFORM_SHARE


@pytest.mark.parametrize("name", baselines.NAMES)
def test_two_classes_and_one(data, name):
    for labels in (data.truth % 2, data.truth * 0):
        log_p = data.log_p[:, :2]
        baseline = baselines.fit(name, data.spaces.fitted, data.labelled(labels, 2), log_softmax(log_p))
        assert np.isfinite(baseline.log_probabilities(data.more, log_softmax(data.more_log_p[:, :2]))).all()


def test_a_class_that_is_only_in_one_part(data):
    labels = np.where(data.truth == 3, 0, data.truth)
    labels[np.flatnonzero(data.part_of == 0)[0]] = 3
    for name in baselines.NAMES:
        found = baselines.fit(name, data.spaces.fitted, data.labelled(labels), data.log_p)
        assert np.isfinite(found.held_out).all()


def test_unknown_names_wrong_labels_and_missing_log_probabilities_are_refused(data):
    fitted = data.spaces.fitted
    with pytest.raises(ValueError, match="no such baseline: oracle; there are nearest-mean, lda"):
        baselines.fit("oracle", fitted, data.labelled())
    with pytest.raises(ValueError, match="one label from 0 to 1"):
        data.labelled(classes=2)
    with pytest.raises(ValueError, match="2 parts"):
        LabelledClips(data.truth, np.minimum(data.part_of, 0), CLASSES)
    with pytest.raises(ValueError, match="vector needs the network"):
        baselines.fit(baselines.VECTOR, fitted, data.labelled())
    with pytest.raises(ValueError, match="vector needs the network"):
        data.fit(baselines.VECTOR).log_probabilities(data.more)


def test_without_scikit_learn_the_message_says_what_to_install(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ResourceError, match="not installed; install it, or gramcli with its extra evaluate"):
        data.fit(baselines.PROBE)
    data.fit(baselines.LDA)


def test_more_classes_than_half_of_the_clips_are_fitted_without_a_warning():
    found = Data(training=20, validation=20, test=40, classes=25)
    labelled = found.labelled(classes=25)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        baseline = baselines.fit(baselines.PROBE, found.spaces.fitted, labelled, found.log_p)
    assert np.isfinite(baseline.log_probabilities(found.more, found.more_log_p)).all()
