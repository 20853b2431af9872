"""The deviation kernel, N × C × ΣK elements, beside the NumPy one-liner."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gramcli.gram import compiled
from gramcli.gram.bounds import Bounds
from gramcli.gram.descriptor import normalise
from gramcli.gram.deviation import deviations
from tests.benchmarks.measure import Figure, seconds

# the 49 layers of a resnet50: 22,720 channels
CHANNELS = (64,) * 7 + (256,) * 3 + (128,) * 8 + (512,) * 4 + (256,) * 12 + (1024,) * 6 + (512,) * 6 + (2048,) * 3
CLIPS, CLASSES, EPSILON = 256, 10, 0.05


def one_liner(scaled: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Eq. 9-10 as one writes them down."""
    below, above = np.maximum(np.abs(lower), np.float32(EPSILON)), np.maximum(np.abs(upper), np.float32(EPSILON))
    return np.maximum(np.maximum((lower - scaled[:, None]) / below, (scaled[:, None] - upper) / above), 0).sum(-1)


def measure(_folder: Path, _data: Path | None) -> list[Figure]:
    """Takes the figures."""
    rng = np.random.default_rng(0)
    layers = []
    for channels in CHANNELS:
        scaled = normalise((rng.random((CLIPS, channels)) ** 3).astype(np.float32))
        bounds = Bounds.empty(CLASSES, channels)
        bounds.update(scaled[: CLIPS // 2], rng.integers(0, CLASSES, CLIPS // 2))
        filled = bounds.filled()
        layers.append((scaled, filled.lower, filled.upper))
    compiled.worth(compiled.WORTH)  # in calibrate it soon is

    def ours(threads: int) -> list[np.ndarray]:
        return [deviations(*layer, EPSILON, threads) for layer in layers]

    plain = [one_liner(*layer) for layer in layers]
    for one, two, naive in zip(ours(1), ours(2), plain, strict=True):
        if not np.array_equal(one, two):
            raise AssertionError("one and two threads differ")
        np.testing.assert_allclose(one, naive, rtol=1e-5)
    took = seconds(
        {
            "one-liner": lambda: [one_liner(*layer) for layer in layers],
            "1 thread": lambda: ours(1),
            "2 threads": lambda: ours(2),
        }
    )
    work = CLIPS * CLASSES * sum(CHANNELS)
    about = {f"{name}, G element·class/s": work / least / 1e9 for name, least in took.items()}
    faster = {name: took["one-liner"] / took[name] for name in ("1 thread", "2 threads")}
    return [
        Figure(5, "deviation kernel, times as fast as the NumPy one-liner, 1 thread", faster["1 thread"], about=about),
        Figure(5, "the same, 2 threads; the same bits as with 1", faster["2 threads"], least=25, about=about),
    ]
