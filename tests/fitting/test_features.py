from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.fitting.covariance import class_means, scatter, squared_distances
from gramcli.fitting.features import ClipSpan, Standardiser


@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(1, 60))
def test_rotation_changes_no_distance(seed, clips, features):
    rng = np.random.default_rng(seed)
    fitted, new = rng.normal(3, 2, (clips, features)), rng.normal(3, 2, (4, features))
    span = ClipSpan.fit(fitted)
    (within, beyond), (more, off) = span.coordinates(fitted), span.coordinates(new)
    assert within.shape[1] <= max(features, clips - 1) if features < clips else within.shape[1] <= clips - 1
    scale = features * 4
    assert beyond == pytest.approx(np.zeros(clips), abs=1e-5 * scale)
    direct = ((new[:, None] - fitted) ** 2).sum(axis=2)
    assert squared_distances(more, within) + off[:, None] == pytest.approx(direct, abs=1e-5 * scale, rel=1e-5)


def test_standardised_vectors_computed_by_hand(rng):
    raw = {"a": rng.gamma(2, 5, (50, 6)).astype(np.float32), "b": rng.gamma(2, 5, (50, 3)).astype(np.float32)}
    raw["b"][:, 1] = 7  # never changes
    found = Standardiser.fit(raw, "plain").apply(raw)
    assert found.shape == (50, 9)
    assert (found[:, 7] == 0).all()
    moving = np.delete(found, 7, axis=1)
    assert moving.mean(axis=0) == pytest.approx(np.zeros(8), abs=1e-5)
    assert moving.std(axis=0) == pytest.approx(np.ones(8), abs=5e-3)


def test_the_logarithm_does_not_depend_on_the_level(rng):
    raw = {"a": rng.gamma(4, 5, (50, 6))}
    log = Standardiser.fit(raw, "log")
    louder = {"a": raw["a"] * 2}
    step = log.apply(louder) - log.apply(raw)
    assert step == pytest.approx(np.broadcast_to(step[:1], step.shape), abs=0.05)


def test_negative_row_sums_and_layers_of_zeros(rng):
    raw = {"gelu": rng.normal(0, 5, (20, 4)), "dead": np.zeros((20, 3))}
    found = Standardiser.fit(raw, "log").apply(raw)
    assert np.isfinite(found).all()
    assert (found[:, 4:] == 0).all()


def test_missing_clips_numbers_that_are_not_finite_and_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="expected finite descriptors of at least one clip in a"):
        Standardiser.fit({"a": np.array([[1, np.nan]])}, "log")
    with pytest.raises(ValueError, match="at least one clip"):
        Standardiser.fit({"a": np.zeros((0, 2))}, "log")
    with pytest.raises(ValueError, match="is no kind of feature"):
        Standardiser.fit({"a": np.ones((2, 2))}, "cubed")


@pytest.mark.parametrize(("clips", "features"), [(30, 200), (60, 12), (25, 25)])
def test_covariance_is_that_of_scikit_learn(rng, clips, features):
    from sklearn.covariance import LedoitWolf

    vectors = rng.normal(0, rng.gamma(1, 1, features), (clips, features))
    _, _, residuals = class_means(vectors, np.arange(clips) % 4)
    theirs = LedoitWolf(assume_centered=True).fit(residuals)
    span = ClipSpan.fit(vectors)
    turned = class_means(span.coordinates(vectors)[0], np.arange(clips) % 4)[2]
    ours = scatter(turned, features).shrunk()
    assert ours.shrinkage == pytest.approx(theirs.shrinkage_, rel=1e-4)
    white = ours.whiten(span.coordinates(vectors)[0])
    direct = [[(a - b) @ theirs.precision_ @ (a - b) for b in vectors[:5]] for a in vectors]
    assert squared_distances(white, white[:5]) == pytest.approx(np.array(direct), rel=1e-3, abs=1e-3)


def test_with_one_clip_in_each_class_distances_stay_as_they_are(rng):
    vectors = rng.normal(size=(4, 3))
    covariance = scatter(class_means(vectors, np.arange(4))[2], 3).shrunk()
    assert squared_distances(covariance.whiten(vectors), covariance.whiten(vectors)) == pytest.approx(
        squared_distances(vectors, vectors)
    )
