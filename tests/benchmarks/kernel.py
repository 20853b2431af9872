"""Speed of the deviation kernel, N × C × ΣK elements, against one line of NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from gramcli.gram.bounds import Bounds
from gramcli.gram.descriptor import normalise
from gramcli.gram.deviation import deviations
from gramcli.gram.kernels import Plan
from gramcli.system import malloc
from tests.benchmarks.measure import Figure, apart, seconds

# the 49 layers of a resnet50: 22,720 channels
CHANNELS = (64,) * 7 + (256,) * 3 + (128,) * 8 + (512,) * 4 + (256,) * 12 + (1024,) * 6 + (512,) * 6 + (2048,) * 3
SIZES = ((256, 10), (400, 50))
"""Clips and classes: a shard of ESC-10, and the validation clips of ESC-50."""
EPSILON = 0.05


def one_liner(scaled: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Eq. 9-10 as one writes them down."""
    below, above = np.maximum(np.abs(lower), np.float32(EPSILON)), np.maximum(np.abs(upper), np.float32(EPSILON))
    return np.maximum(np.maximum((lower - scaled[:, None]) / below, (scaled[:, None] - upper) / above), 0).sum(-1)


def layers_of(clips: int, classes: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Returns g̃, λ and Λ of every layer."""
    rng = np.random.default_rng(0)
    layers = []
    for channels in CHANNELS:
        scaled = normalise((rng.random((clips, channels)) ** 3).astype(np.float32))
        bounds = Bounds.empty(classes, channels)
        bounds.update(scaled[: clips // 2], np.arange(clips // 2) % classes)
        filled = bounds.filled()
        layers.append((scaled, filled.lower, filled.upper))
    return layers


def naively(clips: int, classes: int) -> Callable[[], object]:
    """Returns the one-liner over every layer."""
    layers = layers_of(clips, classes)
    return lambda: [one_liner(*layer) for layer in layers]


def measure(_folder: Path, _data: Path | None) -> list[Figure]:
    """Takes the figures."""
    malloc.keep_freed()  # as the program does
    figures = []
    for clips, classes in SIZES:
        layers = layers_of(clips, classes)

        def ours(threads: int, layers: list = layers) -> list[np.ndarray]:
            return [deviations(*layer, EPSILON, Plan(compiled=True, threads=threads)) for layer in layers]

        for one, two, layer in zip(ours(1), ours(2), layers, strict=True):
            if not np.array_equal(one, two):
                raise AssertionError("one and two threads differ")
            np.testing.assert_allclose(one, one_liner(*layer), rtol=1e-5)
        with apart(naively, clips, classes) as naive:
            took = seconds({"one-liner": naive, "1 thread": lambda: ours(1), "2 threads": lambda: ours(2)})
        work = clips * classes * sum(CHANNELS)
        about = {f"{name}, G element·class/s": work / least / 1e9 for name, least in took.items()}
        what = f"deviation kernel, {clips} clips, {classes} classes, 2 threads, times as fast as the NumPy one-liner"
        figures.append(Figure(5, what, took["one-liner"] / took["2 threads"], least=25, about=about))
    return figures
