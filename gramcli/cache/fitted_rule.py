"""The fitted decision rule: layers, E_l, fusion weights, discriminant, temperature, size correction and threshold.

The decision file, inference and exported models share this type. It does not hold the class bounds. `pack` and
`unpack` convert it to and from the tensors of a sealed file.
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
from gramcli.settings.schema import is_valid
from gramcli.text import shown

TINY = 1e-100
"""Smallest accepted E_l and discriminant floor, by which deviations and descriptors are divided.

Every positive mean of float32 numbers is larger, and no float32 number divided by it overflows a float64."""

_ROUNDING = 1e-9
"""Relative difference that rounding may cause between two sums of the same numbers."""


@dataclass(frozen=True, eq=False)
class FittedRule:
    """Everything but the bounds that turns a clip's deviations, descriptors and logits into label and strangeness."""

    name: str
    """fused or gram."""
    layers: tuple[str, ...]
    """The L layers that can be used, best first."""
    chosen: int
    """k, the number of first layers that make up Δ̄."""
    expected: Array
    """E_l of these layers, (L,) float64, positive."""
    fusion: Fusion | None = None
    """Weights of the rule fused; None with the rule gram."""
    inverse_temperature: float | None = None
    """t of the probability softmax(-t log(1 + Δ̄)) of the rule gram; None if it could not be fitted."""
    threshold: Threshold | None = None
    """Strangeness above which a clip is unknown; None if validation has fewer than 1/α - 1 groups, where α is
    the false-reject rate (19 for 5 %)."""
    size_correction: SizeCorrection | None = None
    """Correction of the evidence for the sizes of the C classes that have training clips, (L, C). None if they are of
    about equal size."""
    discriminant: Discriminant | None = None
    """Discriminant over all layers, for the classes that have training clips; None with the rule gram."""

    def check(self, channels: Mapping[str, int], present: int) -> None:
        """Checks that the parts fit each other: shapes, signs, finite numbers, and the parts that the named rule needs.

        Args:
            channels: Channels of the layers.
            present: Number of classes that have training clips, C.

        Raises:
            ValueError, TypeError: They do not, as the file that they come from may hold anything.
        """
        layers = len(self.layers)
        if self.name not in ("fused", "gram"):
            raise ValueError(f"the rule is {self.name!r}, not fused or gram")
        if (self.name == "fused") != (self.fusion is not None):
            raise ValueError("the rule fused needs fusion weights, and the rule gram has none")
        if self.name == "gram" and self.discriminant is not None:
            raise ValueError("the rule gram has no discriminant")
        if not isinstance(self.chosen, int) or isinstance(self.chosen, bool) or not 1 <= self.chosen <= layers:
            raise ValueError(f"the number of chosen layers is {self.chosen!r}, not one of 1 to {layers}")
        _require_numbers("E_l", self.expected, (layers,), least=TINY)
        if self.fusion is not None:
            _require_numbers("fusion weights", self.fusion.weights, (layers,), least=0)
            _require_finite(
                "a fusion weight", self.fusion.discriminant_weight, self.fusion.network_weight, self.fusion.ridge
            )
        if self.size_correction is not None:
            _require_numbers("scales of the size correction", self.size_correction.scale, (layers, present), least=0)
            _require_numbers("shifts of the size correction", self.size_correction.shift, (layers, present))
        if self.discriminant is not None:
            self._check_discriminant(self.discriminant, channels, present)
        if self.inverse_temperature is not None:
            _require_finite("the inverse temperature", self.inverse_temperature)
        if self.threshold is not None:
            limit = self.threshold
            _require_finite("a number of the threshold", limit.value, limit.false_reject, limit.low, limit.high)
            if not isinstance(limit.groups, int) or isinstance(limit.groups, bool) or limit.groups < 1:
                raise ValueError(f"the threshold was set on {limit.groups!r} groups")
            if not is_valid("decision", "false_reject", limit.false_reject) or not 0 <= limit.low <= limit.high <= 1:
                raise ValueError("a rate of the threshold is not between 0 and 1, or is too small")
            if not isinstance(limit.folder, str | None):
                raise TypeError(f"the folder of the threshold is {limit.folder!r}, not text")

    def _check_discriminant(self, discriminant: Discriminant, channels: Mapping[str, int], present: int) -> None:
        if set(discriminant.floors) != set(self.layers):
            raise ValueError("the layers of the discriminant are not those of the rule")
        for layer in self.layers:
            _require_numbers(
                f"discriminant weights of {layer}", discriminant.weights[layer], (channels[layer], present)
            )
        _require_finite("a floor of the discriminant", *discriminant.floors.values())
        if min(discriminant.floors.values()) < TINY:
            raise ValueError(f"a floor of the discriminant is below {TINY:g}")
        _require_numbers("biases of the discriminant", discriminant.bias, (present,))


def _require_numbers(what: str, array: Array, shape: tuple[int, ...], least: float = -math.inf) -> None:
    if array.dtype.kind != "f" or array.shape != shape or not (np.isfinite(array) & (array >= least)).all():
        raise ValueError(f"{what}: not finite floats of shape {shape} that are at least {least:g}")


def _require_finite(what: str, *values: float) -> None:
    if any(isinstance(value, bool) or not math.isfinite(value) for value in values):
        raise ValueError(f"{what} is not finite")


# Names in the file, kept since format 1: sharpness is the inverse temperature, levelling the size correction, trust the
# network's weight, and joint the discriminant's weight.


def pack(rule: FittedRule) -> tuple[dict[str, Array], dict[str, Any]]:
    """Returns a rule as tensors and JSON values of a sealed file, without its layers and E_l; see `unpack`."""
    tensors: dict[str, Array] = {}
    about: dict[str, Any] = {
        "chosen": rule.chosen,
        "rule": rule.name,
        "sharpness": rule.inverse_temperature,
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
        about["fusion"] = {
            "trust": rule.fusion.network_weight,
            "joint": rule.fusion.discriminant_weight,
            "ridge": rule.fusion.ridge,
        }
    return tensors, about


def unpack(file: Sealed, layers: tuple[str, ...], expected: Array) -> FittedRule:
    """Reads a rule that `pack` put into a sealed file.

    Args:
        file: The file.
        layers: The layers of the rule, best first.
        expected: Their E_l, (L,).

    Raises:
        ArtefactError: An earlier version fitted the rule with other E_l.
        DamagedError, KeyError, TypeError, ValueError: `pack` does not write such values.
    """
    about = file.about
    if "fusion/expected" in file.names and not np.allclose(file["fusion/expected"], expected, rtol=_ROUNDING, atol=0):
        # format 1 kept E_l of the clips that the weights were fitted on, which with very many clips were not all
        raise ArtefactError(
            f"{shown(file.path)}: an earlier version of gramcli fitted this rule on some of the validation clips, and "
            "this version cannot apply it; run gramcli select-layers again, and for an exported model gramcli export"
        )
    return FittedRule(
        name=about["rule"],
        layers=layers,
        chosen=about["chosen"],
        expected=expected,
        fusion=_fusion(file),
        inverse_temperature=about["sharpness"],
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
    bias = np.array(about["bias"], np.float64)
    return Discriminant(floors, {layer: file[f"discriminant/{layer}"] for layer in floors}, bias)
