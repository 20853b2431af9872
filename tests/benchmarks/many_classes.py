"""Time and memory of calibrate and select-layers with 527 classes, and how both grow with clips and classes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from tests.benchmarks import synthetic
from tests.benchmarks.calibration import LAYERS
from tests.benchmarks.measure import Figure, with_peak

CLASSES, VALIDATION, TRAINING = 527, 20_000, 8
"""Classes, validation clips, and training clips a class."""
SMALLER = ((CLASSES // 4, VALIDATION // 4), (CLASSES, VALIDATION // 4), (CLASSES // 4, VALIDATION))


def both(folder: Path, classes: int, validation: int) -> tuple[float, float]:
    """Returns seconds and peak MiB of both commands on a cache made for it."""
    cache = folder / f"{classes}-{validation}"
    synthetic.write(cache, classes * TRAINING + validation, LAYERS, classes, validation=validation)
    ran = [with_peak(command, "--cache", cache) for command in ("calibrate", "select-layers")]
    shutil.rmtree(cache)
    return sum(one.seconds for one, _ in ran), max(peak for _, peak in ran)


def measure(folder: Path, _data: Path | None) -> list[Figure]:
    """Takes the figures."""
    sizes = [*SMALLER, (CLASSES, VALIDATION)]
    took = np.array([both(folder, *size) for size in sizes])
    # seconds = a + b · clips · classes + c · clips, by least squares; linear growth leaves nothing to explain
    clips_and_classes = np.array(sizes, float)
    terms = np.column_stack([np.ones(len(sizes)), clips_and_classes.prod(axis=1), clips_and_classes[:, 1]])
    fitted = terms @ np.linalg.lstsq(terms, took[:, 0], rcond=None)[0]
    off = float(np.abs(fitted / took[:, 0] - 1).max())
    about = {f"{classes} classes, {clips} clips: s, MiB": took[n].tolist() for n, (classes, clips) in enumerate(sizes)}
    what = f"calibrate and select-layers, {CLASSES} classes, {VALIDATION} validation clips"
    return [
        Figure(7, f"{what}: wall time", took[-1, 0], "s", about=about),
        Figure(7, "the same: peak memory", took[-1, 1] / 1024, "GiB", most=2e9 / 2**30),
        Figure(7, "largest share by which a plane through clips × classes and clips misses the wall time", off),
    ]
