"""What select-layers leaves behind: which layers decide, and everything that was fitted on validation clips.

``decision.safetensors`` names the statistics it was made from. It is sealed (`gramcli.cache.sealed`), and equal
statistics and settings give equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from gramcli.cache import regular_file, sealed
from gramcli.cache.statistics import Statistics, damaged
from gramcli.errors import ArtefactError
from gramcli.rule.class_size import SizeCorrection
from gramcli.rule.discriminant import Discriminant
from gramcli.rule.fusion import Fusion
from gramcli.rule.threshold import Threshold
from gramcli.text import shown

FILE = "decision.safetensors"

TINY = 1e-100
"""No mean of float32 numbers above 0 is smaller, and by none of them it divides beyond what float64 holds."""


@dataclass(frozen=True)
class Decision:
    """Which layers decide, how that was found, and the rule that was fitted."""

    ranking: str
    top_k: str
    """As asked for: a number, auto or all."""
    order: tuple[str, ...]
    """Layers from the best score to the worst."""
    scores: tuple[float, ...]
    """I_l of Eq. 12 in that order."""
    accuracy: tuple[float, ...]
    """Validation accuracy of the first k layers, k = 1, 2, ... (a selection, not an estimate)."""
    chosen: int
    """How many of them make up Δ̄."""
    statistics: str
    """Digest of the statistics it was made from."""
    rule: str = "gram"
    """What gives a clip its label: fused or gram."""
    fusion: Fusion | None = None
    """Of the first layers in order, as many as it has weights; None for the rule gram."""
    sharpness: float | None = None
    """b of the probability softmax(-b log(1 + Δ̄)) that the rule gram gives; None where it could not be fitted."""
    threshold: Threshold | None = None
    """From which strangeness on a clip is unknown; None where validation has too few groups for the rate."""
    held_out: float | None = None
    """Accuracy of the rule on validation clips that it was not fitted on."""
    levelling: SizeCorrection | None = None
    """What brings classes to one size, layers as in `order`, classes as far as they have training clips; the fused rule
    has the same. None where they are of about equal size."""
    discriminant: Discriminant | None = None
    """What all layers say together, classes as far as they have training clips; None with the rule gram."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that Δ̄ is the mean over."""
        return self.order[: self.chosen]


def save(cache: Path, decision: Decision) -> None:
    """Writes the decision.

    Raises:
        ResourceError: It cannot be written.
    """
    numbers = {"scores": np.array(decision.scores), "accuracy": np.array(decision.accuracy)}
    about = {
        "ranking": decision.ranking,
        "top_k": decision.top_k,
        "order": list(decision.order),
        "chosen": decision.chosen,
        "statistics": decision.statistics,
        "rule": decision.rule,
        "sharpness": decision.sharpness,
        "held_out": decision.held_out,
        "threshold": None if decision.threshold is None else asdict(decision.threshold),
    }
    tensors, described = packed(decision.fusion, decision.levelling, decision.discriminant)
    sealed.write(cache / FILE, "decision", numbers | tensors, about | described)


def load(cache: Path, statistics: Statistics) -> Decision:
    """Opens the decision that belongs to these statistics.

    Raises:
        ArtefactError: There is none yet, or it is from other statistics.
        DamagedError: It is not as it was written.
    """
    regular_file.require_regular(cache / FILE)
    file = sealed.load(cache / FILE, "decision", "run gramcli select-layers")
    about = file.about
    try:
        decision = Decision(
            about["ranking"],
            about["top_k"],
            tuple(about["order"]),
            tuple(file["scores"].tolist()),
            tuple(file["accuracy"].tolist()),
            about["chosen"],
            about["statistics"],
            about["rule"],
            unpacked(file),
            about["sharpness"],
            None if about["threshold"] is None else Threshold(**about["threshold"]),
            about["held_out"],
            levelling(file),
            discriminant(file),
        )
    except (KeyError, TypeError, ValueError):
        raise damaged(file) from None
    if decision.statistics != statistics.file.digest:
        raise ArtefactError(f"{shown(file.path)}: was made from other statistics; run gramcli select-layers again")
    present, layers = int((statistics.counts > 0).sum()), list(statistics.layers)
    try:
        channels = {layer: statistics.layers[layer] for layer in decision.order}
        check(decision, channels, statistics.expected[[layers.index(layer) for layer in channels]], present)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise damaged(file) from None
    return decision


class Fitted(Protocol):
    """What was fitted on validation clips, of a cache or of an exported model."""

    @property
    def chosen(self) -> int:
        """How many layers make up Δ̄."""

    @property
    def fusion(self) -> Fusion | None:
        """The fused rule."""

    @property
    def levelling(self) -> SizeCorrection | None:
        """What brings classes to one size."""

    @property
    def discriminant(self) -> Discriminant | None:
        """What all layers say together."""

    @property
    def sharpness(self) -> float | None:
        """Of the probability that the rule gram gives."""

    @property
    def threshold(self) -> Threshold | None:
        """From which strangeness on a clip is unknown."""


def check(found: Fitted, channels: Mapping[str, int], expected: sealed.Array, present: int) -> None:
    """Raises a ValueError or TypeError where parts do not fit each other: whoever can write a file can seal it.

    Args:
        found: What a file says.
        channels: Channels of its layers, the best first.
        expected: E_l of these, (L,).
        present: Classes that have training clips.
    """
    layers = len(channels)
    if not isinstance(found.chosen, int) or not 1 <= found.chosen <= layers:
        raise ValueError("number of layers")
    _numbers(expected, (layers,), least=TINY)
    if found.fusion is not None:
        _numbers(found.fusion.weights, (layers,), least=0)
        _numbers(found.fusion.expected, (layers,), least=TINY)
        _number(found.fusion.joint, found.fusion.trust, found.fusion.ridge)
    if found.levelling is not None:
        _numbers(found.levelling.scale, (layers, present), least=0)
        _numbers(found.levelling.shift, (layers, present))
    if found.discriminant is not None:
        if set(found.discriminant.floors) != set(channels):
            raise ValueError("layers of the discriminant")
        for layer, size in channels.items():
            _numbers(found.discriminant.weights[layer], (size, present))
        _number(*found.discriminant.floors.values())
        if min(found.discriminant.floors.values()) < TINY:
            raise ValueError("floor of a logarithm")
        _numbers(found.discriminant.bias, (present,))
    if found.sharpness is not None:
        _number(found.sharpness)
    if found.threshold is not None:
        limit = found.threshold
        _number(limit.value, limit.false_reject, limit.low, limit.high, limit.groups)
        if not isinstance(limit.folder, str | None):
            raise TypeError("folder")


def _numbers(array: sealed.Array, shape: tuple[int, ...], least: float = -math.inf) -> None:
    if array.dtype.kind != "f" or array.shape != shape or not (np.isfinite(array) & (array >= least)).all():
        raise ValueError("numbers")


def _number(*values: float) -> None:
    if not all(math.isfinite(value) for value in values):
        raise ValueError("a number")


def packed(
    fusion: Fusion | None, levelling: SizeCorrection | None, discriminant: Discriminant | None
) -> tuple[dict[str, sealed.Array], dict[str, object]]:
    """Returns what was fitted as tensors and JSON values of a sealed file; `unpacked` and the others read it."""
    tensors: dict[str, sealed.Array] = {}
    about: dict[str, object] = {"fusion": None, "discriminant": None}
    if levelling is not None:
        tensors |= {"levelling/scale": levelling.scale, "levelling/shift": levelling.shift}
    if discriminant is not None:
        tensors |= {f"discriminant/{layer}": weights for layer, weights in discriminant.weights.items()}
        about["discriminant"] = {"floors": dict(discriminant.floors), "bias": discriminant.bias.tolist()}
    if fusion is not None:
        tensors |= {"fusion/weights": fusion.weights, "fusion/expected": fusion.expected}
        about["fusion"] = {"trust": fusion.trust, "joint": fusion.joint, "ridge": fusion.ridge}
    return tensors, about


def unpacked(file: sealed.Sealed) -> Fusion | None:
    """Returns the fused rule of a sealed file, or None."""
    about = file.about["fusion"]
    if about is None:
        return None
    weights, expected = file["fusion/weights"], file["fusion/expected"]
    return Fusion(weights, expected, about["joint"], about["trust"], about["ridge"], levelling(file))


def levelling(file: sealed.Sealed) -> SizeCorrection | None:
    """Returns what brings classes to one size, of a sealed file, or None."""
    if "levelling/scale" not in file.names:
        return None
    return SizeCorrection(file["levelling/scale"], file["levelling/shift"])


def discriminant(file: sealed.Sealed) -> Discriminant | None:
    """Returns what all layers say together, of a sealed file, or None."""
    about = file.about["discriminant"]
    if about is None:
        return None
    floors = {layer: float(floor) for layer, floor in about["floors"].items()}
    return Discriminant(floors, {layer: file[f"discriminant/{layer}"] for layer in floors}, np.array(about["bias"]))
