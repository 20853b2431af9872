from __future__ import annotations

import numpy as np
import pytest

from gramcli.evaluation.spaces import Spaces


def test_only_training_clips_set_means_and_deviations(rng):
    raw = {"a": rng.gamma(2, 5, (30, 40))}
    training = np.arange(30) < 20
    other = {"a": np.where(training[:, None], raw["a"], raw["a"] * 9)}
    one, two = (Spaces.fit(rows, training).standards["log"].layers["a"] for rows in (raw, other))
    for left, right in zip(one, two, strict=True):
        assert np.array_equal(left, right)


def test_coordinates_of_fitted_clips_are_reproduced(rng):
    raw = {"a": rng.gamma(2, 5, (30, 40)), "b": rng.gamma(2, 5, (30, 7))}
    spaces = Spaces.fit(raw, np.arange(30) < 20)
    for kind, again in spaces.of(raw).items():
        assert again.features == 47
        assert again.values == pytest.approx(spaces.fitted[kind].values, abs=1e-5)


def test_scaled_descriptors_do_not_depend_on_the_level_of_a_clip(rng):
    raw = {"a": rng.gamma(4, 5, (50, 6))}
    spaces = Spaces.fit(raw, np.arange(50) < 40)
    louder = spaces.of({"a": raw["a"] * 2})
    assert louder["scaled"].values == pytest.approx(spaces.fitted["scaled"].values, abs=1e-5)
    assert not np.allclose(louder["log"].values, spaces.fitted["log"].values, atol=1e-2)
