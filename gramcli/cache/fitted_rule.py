"""The fitted rule: everything that was fitted on validation clips. Decisions, inference and exported models share it.

It knows nothing of bounds or clips. `pack` and `unpack` take it to and from the tensors of a sealed file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gramcli.cache.sealed import Array, Sealed
from gramcli.errors import ArtefactError
from gramcli.rule.class_size import SizeCorrection
from gramcli.rule.discriminant import Discriminant
from gramcli.rule.fusion import Fusion
from gramcli.rule.threshold import Threshold
from gramcli.text import shown

TINY = 1e-100
"""Smallest divisor that is accepted. No mean of float32 numbers above 0 is smaller, and no quotient by it overflows."""

_SAME = 1e-9
"""Relative difference between two ways of adding up the same numbers."""


@dataclass(frozen=True, eq=False)
class FittedRule:
    """What gives a clip its label, its probabilities and its strangeness, once its deviations are known."""

    name: str
    """fused or gram."""
    layers: tuple[str, ...]
    """All layers that can be used, L of them, best first."""
    chosen: int
    """How many of them, from the first on, make up Δ̄."""
    expected: Array
    """E_l of these layers, (L,) float64, positive."""
    fusion: Fusion | None = None
    """Weights of the rule fused; None with the rule gram."""
    sharpness: float | None = None
    """b of the probability softmax(-b log(1 + Δ̄)) that the rule gram gives; None where it could not be fitted."""
    threshold: Threshold | None = None
    """Strangeness beyond which a clip is unknown; None where validation has too few groups for the rate."""
    size_correction: SizeCorrection | None = None
    """Corrects evidence for the sizes of the C classes that have training clips, (L, C); None where they are of about
    equal size."""
    discriminant: Discriminant | None = None
    """Of all layers and the classes that have training clips; None with the rule gram."""

    def check(self, channels: Mapping[str, int], present: int) -> None:
        """Raises a ValueError or TypeError where parts do not fit each other; a file may hold anything.

        Args:
            channels: Channels of the layers.
            present: Classes that have training clips, C.
        """
        layers = len(self.layers)
        if self.name not in ("fused", "gram"):
            raise ValueError("rule")
        if not isinstance(self.chosen, int) or not 1 <= self.chosen <= layers:
            raise ValueError("number of layers")
        _require_numbers(self.expected, (layers,), least=TINY)
        if self.fusion is not None:
            _require_numbers(self.fusion.weights, (layers,), least=0)
            _require_finite(self.fusion.joint, self.fusion.trust, self.fusion.ridge)
        if self.size_correction is not None:
            _require_numbers(self.size_correction.scale, (layers, present), least=0)
            _require_numbers(self.size_correction.shift, (layers, present))
        if self.discriminant is not None:
            self._check_discriminant(self.discriminant, channels, present)
        if self.sharpness is not None:
            _require_finite(self.sharpness)
        if self.threshold is not None:
            limit = self.threshold
            _require_finite(limit.value, limit.false_reject, limit.low, limit.high, limit.groups)
            if not isinstance(limit.folder, str | None):
                raise TypeError("folder")

    def _check_discriminant(self, discriminant: Discriminant, channels: Mapping[str, int], present: int) -> None:
        if set(discriminant.floors) != set(self.layers):
            raise ValueError("layers of the discriminant")
        for layer in self.layers:
            _require_numbers(discriminant.weights[layer], (channels[layer], present))
        _require_finite(*discriminant.floors.values())
        if min(discriminant.floors.values()) < TINY:
            raise ValueError("floor of a logarithm")
        _require_numbers(discriminant.bias, (present,))


def _require_numbers(array: Array, shape: tuple[int, ...], least: float = -math.inf) -> None:
    if array.dtype.kind != "f" or array.shape != shape or not (np.isfinite(array) & (array >= least)).all():
        raise ValueError("numbers")


def _require_finite(*values: float) -> None:
    if not all(math.isfinite(value) for value in values):
        raise ValueError("a number is not finite")


def pack(rule: FittedRule) -> tuple[dict[str, Array], dict[str, Any]]:
    """Returns a rule as tensors and JSON values of a sealed file, but for its layers and E_l; see `unpack`."""
    tensors: dict[str, Array] = {}
    about: dict[str, Any] = {
        "chosen": rule.chosen,
        "rule": rule.name,
        "sharpness": rule.sharpness,
        "threshold": None if rule.threshold is None else asdict(rule.threshold),
        "fusion": None,
        "discriminant": None,
    }
    if rule.size_correction is not None:
        tensors |= {"levelling/scale": rule.size_correction.scale, "levelling/shift": rule.size_correction.shift}
    if rule.discriminant is not None:
        tensors |= {f"discriminant/{layer}": weights for layer, weights in rule.discriminant.weights.items()}
        about["discriminant"] = {"floors": dict(rule.discriminant.floors), "bias": rule.discriminant.bias.tolist()}
    if rule.fusion is not None:
        tensors["fusion/weights"] = rule.fusion.weights
        about["fusion"] = {"trust": rule.fusion.trust, "joint": rule.fusion.joint, "ridge": rule.fusion.ridge}
    return tensors, about


def unpack(file: Sealed, layers: tuple[str, ...], expected: Array) -> FittedRule:
    """Reads what `pack` has put into a sealed file.

    Args:
        file: The file.
        layers: Its layers, best first.
        expected: Their E_l, (L,).

    Raises:
        ArtefactError: An earlier version fitted the rule in units of other E_l.
        DamagedError, KeyError, TypeError, ValueError: It is not what `pack` writes.
    """
    about = file.about
    if "fusion/expected" in file.names and not np.allclose(file["fusion/expected"], expected, rtol=_SAME, atol=0):
        # format 1 kept E_l of the validation clips that the weights were fitted on; of very many clips these were some
        raise ArtefactError(
            f"{shown(file.path)}: an earlier version fitted this rule on a part of the validation clips, and this "
            "version cannot apply it; run gramcli select-layers again, and for an exported model gramcli export"
        )
    return FittedRule(
        name=about["rule"],
        layers=layers,
        chosen=about["chosen"],
        expected=expected,
        fusion=_fusion(file),
        sharpness=about["sharpness"],
        threshold=None if about["threshold"] is None else Threshold(**about["threshold"]),
        size_correction=_size_correction(file),
        discriminant=_discriminant(file),
    )


def _fusion(file: Sealed) -> Fusion | None:
    about = file.about["fusion"]
    if about is None:
        return None
    return Fusion(file["fusion/weights"], about["joint"], about["trust"], about["ridge"])


def _size_correction(file: Sealed) -> SizeCorrection | None:
    if "levelling/scale" not in file.names:
        return None
    return SizeCorrection(file["levelling/scale"], file["levelling/shift"])


def _discriminant(file: Sealed) -> Discriminant | None:
    about = file.about["discriminant"]
    if about is None:
        return None
    floors = {layer: float(floor) for layer, floor in about["floors"].items()}
    return Discriminant(floors, {layer: file[f"discriminant/{layer}"] for layer in floors}, np.array(about["bias"]))
