"""Scores of unknown sounds as a family; each by itself is tested in test_detectors.py."""

from __future__ import annotations

import numpy as np
import pytest

from gramcli.evaluation.ood import detectors
from gramcli.evaluation.ood.scores import SPECTRUM, OnAudio, OnDescriptors, of_logits
from gramcli.fitting.features import Standardiser


def test_logits(rng):
    logits = rng.normal(size=(7, 3))
    found = of_logits(logits)
    assert list(found) == ["max_softmax", "energy", "max_logit"]
    for name, values in found.items():
        np.testing.assert_array_equal(values, getattr(detectors, name)(logits))


def test_descriptors_are_standardised_logarithms(rng):
    labels = np.arange(30) % 3
    training = {layer: np.exp(rng.normal(size=(30, 4))) for layer in ("a", "b")}
    others = {layer: np.exp(1 + rng.normal(size=(5, 4))) for layer in ("a", "b")}
    found = OnDescriptors.fit(training, labels).score(others)
    standard = Standardiser.fit(training, "log")
    vectors, judged = standard.apply(training), standard.apply(others)
    np.testing.assert_array_equal(found["mahalanobis"], detectors.Mahalanobis.fit(vectors, labels).score(judged))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for n, one in enumerate(judged):
        distances = sorted(np.linalg.norm(one / np.linalg.norm(one) - known) for known in unit)
        assert found["knn"][n] == pytest.approx(distances[4], rel=1e-5)


def test_a_measure_is_strange_on_either_side_of_the_median(rng):
    fitted = OnAudio.fit({"level": np.array([-30.0, -20.0, -19.0])}, None, np.array([0, 1, 0]))
    found = fitted.score({"level": np.array([-20.0, -26.0, -14.0])}, None)
    assert found["level"].tolist() == [0, 6, 6]
    assert SPECTRUM not in found
    spectra = rng.normal(size=(3, 2))
    fitted = OnAudio.fit({}, spectra, np.array([0, 1, 0]))
    assert SPECTRUM in fitted.score({}, spectra)
    assert SPECTRUM not in fitted.score({}, None)
