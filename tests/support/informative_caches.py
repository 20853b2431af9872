"""Caches of random descriptors in which the layers, the network's outputs, or both separate the classes."""

from __future__ import annotations

import numpy as np

import gramcli.cache
from gramcli.calibration.calibrate import calibrate

CLASSES = ("a", "b", "c")
LAYERS = {"early": 12, "late": 20}
SPLITS = ["train"] * 120 + ["validation"] * 90 + ["test"] * 90


def write_cache(folder, *, layers_know=True, network_knows=True, groups=None, seed=0):
    """Writes and calibrates a cache; returns its descriptors, logits and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(len(SPLITS)) % 3
    centres = {layer: np.abs(rng.normal(1, 0.6, (3, channels))) for layer, channels in LAYERS.items()}
    heard = labels if layers_know else rng.integers(3, size=len(labels))
    descriptors = {
        layer: centre[heard] * np.exp(0.25 * rng.normal(size=(len(labels), centre.shape[1])))
        for layer, centre in centres.items()
    }
    logits = rng.normal(size=(len(labels), 3)) + (3.0 * np.eye(3)[labels] if network_knows else 0.0)
    gramcli.cache.write(
        [f"clip {n}" for n in range(len(labels))],
        descriptors,
        logits,
        labels=[CLASSES[label] for label in labels],
        splits=SPLITS,
        groups=groups,
        classes=CLASSES,
        cache=folder,
    )
    calibrate(folder)
    return descriptors, logits, labels
