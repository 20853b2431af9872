from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def clips(rng: np.random.Generator) -> np.ndarray:
    """Nine clips (9, 4000) of very different levels."""
    return (rng.standard_normal((9, 4000)) * np.logspace(-4, 0, 9)[:, None]).astype(np.float32)
