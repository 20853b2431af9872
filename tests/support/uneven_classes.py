"""Makes caches of random descriptors whose classes differ in size, with or without a difference between the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import gramcli.cache
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.inference.rule import Rule
from gramcli.settings.schema import CalibrateSettings, DecisionSettings

LAYERS = {"early": 64, "middle": 128, "late": 256}
CAUSES = 4


class Source:
    """Channels share a few causes, as those of a network do; by `apart` classes differ in their centres."""

    def __init__(self, seed: int, classes: int, apart: float = 0.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.centres = {
            layer: self.rng.normal(0, 0.6, channels) + apart * self.rng.normal(size=(classes, channels))
            for layer, channels in LAYERS.items()
        }
        self.loads = {layer: self.rng.normal(0, 0.25, (CAUSES, channels)) for layer, channels in LAYERS.items()}

    def draw(self, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Returns ĝ by layer, (N, K_l) float32 each, of clips of these classes."""
        causes = self.rng.normal(size=(len(labels), CAUSES))
        return {
            layer: np.exp(
                centres[labels] + causes @ self.loads[layer] + 0.2 * self.rng.normal(size=(len(labels), LAYERS[layer]))
            ).astype(np.float32)
            for layer, centres in self.centres.items()
        }


def names(classes: int) -> list[str]:
    return [f"class {n}" for n in range(classes)]


def write(cache: Path, source: Source, train: list[int], validation: list[int], *, network: bool = False) -> None:
    """Writes training and validation clips, so many a class; the network's logits, if any, say nothing."""
    labels = np.concatenate([np.repeat(np.arange(len(train)), counts) for counts in (train, validation)])
    called = names(len(train))
    gramcli.cache.write(
        [f"clip {n}" for n in range(len(labels))],
        source.draw(labels),
        source.rng.normal(size=(len(labels), len(train))) if network else None,
        labels=[called[label] for label in labels],
        splits=["train"] * sum(train) + ["validation"] * sum(validation),
        classes=called if network else (),
        cache=cache,
    )


def decided(cache: Path, class_size: str = "level", **wanted: object) -> Rule:
    """Calibrates and decides."""
    calibrate(cache, CalibrateSettings(class_size=class_size))
    decision, known = select_layers(cache, DecisionSettings(**wanted))
    return Rule.of(known, decision)
