from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from gramcli.evaluation.ood.detectors import Mahalanobis, Neighbours, energy, max_logit, max_softmax
from gramcli.metrics.ood import auroc


def test_scores_of_logits(rng):
    logits = rng.normal(0, 5, (40, 6))
    assert np.exp(-max_softmax(logits)) == pytest.approx(softmax(logits, axis=1).max(axis=1))
    assert energy(logits) == pytest.approx(-logsumexp(logits, axis=1))
    assert max_logit(logits) == pytest.approx(-logits.max(axis=1))
    assert np.isfinite(energy(logits * 1e4)).all()


@pytest.mark.parametrize(("clips", "features"), [(30, 150), (80, 10)])
def test_mahalanobis_over_all_features(rng, clips, features):
    from sklearn.covariance import LedoitWolf

    labels = np.arange(clips) % 3 * 2  # one class does not occur
    known = rng.normal(0, 1, (clips, features)) + rng.normal(0, 2, (6, features))[labels]
    new = rng.normal(0, 2, (7, features))
    means = {one: known[labels == one].mean(axis=0) for one in np.unique(labels)}
    residuals = known - np.array([means[one] for one in labels])
    precision = LedoitWolf(assume_centered=True).fit(residuals).precision_
    direct = [min((x - mean) @ precision @ (x - mean) for mean in means.values()) for x in new]
    assert Mahalanobis.fit(known, labels).score(new) == pytest.approx(np.array(direct), rel=1e-3)


def test_neighbours_by_hand(rng):
    known, new = rng.normal(size=(20, 50)), rng.normal(size=(6, 50))
    unit = [one / np.linalg.norm(one) for one in known]
    direct = [sorted(np.linalg.norm(x / np.linalg.norm(x) - one) for one in unit)[2] for x in new]
    found = Neighbours.fit(known, 3)
    assert found.score(new) == pytest.approx(np.array(direct))
    assert found.score(new * 7) == pytest.approx(found.score(new))
    assert Neighbours.fit(known, 1).score(known) == pytest.approx(np.zeros(20), abs=1e-6)
    assert Neighbours.fit(known[:2], 9).k == 2


def test_higher_is_more_unknown(rng):
    labels = np.arange(60) % 3
    centres = rng.normal(0, 3, (4, 40))
    known, more = (centres[labels] + rng.normal(size=(60, 40)) for _ in range(2))
    strange = centres[3] + rng.normal(size=(60, 40))
    for detector in (Mahalanobis.fit(known, labels), Neighbours.fit(known)):
        assert auroc(detector.score(more), detector.score(strange)) > 0.95
    sure, unsure = np.eye(5)[:3] * 9, np.eye(5)[:3]
    for score in (max_softmax, energy, max_logit):
        assert auroc(score(sure), score(unsure)) == 1


def test_what_is_refused():
    for fit in (Neighbours.fit, lambda vectors: Mahalanobis.fit(vectors, np.zeros(len(vectors), int))):
        with pytest.raises(ValueError, match="at least one clip"):
            fit(np.zeros((0, 3)))
        with pytest.raises(ValueError, match="not finite"):
            fit(np.full((2, 3), np.inf))
    with pytest.raises(ValueError, match="k is at least 1"):
        Neighbours.fit(np.ones((2, 3)), 0)
    with pytest.raises(ValueError, match="do not fit labels"):
        Mahalanobis.fit(np.ones((2, 3)), np.zeros(3, int))
