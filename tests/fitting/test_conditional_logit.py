from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.fitting import conditional_logit


def drawn(seed, clips=30, classes=5, layers=3):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=clips)
    evidence = rng.normal(size=(clips, classes, layers))
    evidence[np.arange(clips), labels] += 1
    return evidence, labels


@given(st.integers(0, 2**32), st.sampled_from([1, 15, 40, 449]))
def test_blocks_of_clips_give_the_weights_of_all_clips_at_once(seed, block):
    evidence, labels = drawn(seed)
    whole = conditional_logit.fit(evidence, labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conditional_logit, "BLOCK", block)
        np.testing.assert_allclose(conditional_logit.fit(evidence, labels), whole, rtol=1e-5, atol=1e-7)


def test_a_number_that_is_not_finite_is_found_in_any_block(monkeypatch):
    monkeypatch.setattr(conditional_logit, "BLOCK", 15)
    evidence, labels = drawn(0)
    evidence[29, 4, 2] = np.inf
    with pytest.raises(ValueError, match="not finite"):
        conditional_logit.fit(evidence, labels)
