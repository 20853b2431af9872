"""The statistics of a cache: bounds, expected deviations and validation deviations, written by calibrate.

``statistics.safetensors`` is a sealed file (`gramcli.cache.sealed`). It holds the fingerprint of the view that it was
computed from. Equal descriptors, labels, splits and groups give equal bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from gramcli.cache import sealed, sealed_writer
from gramcli.errors import ArtefactError
from gramcli.settings.schema import is_valid
from gramcli.system.safetensors_header import Shapes
from gramcli.text import shown

Array = npt.NDArray[Any]

FILE = "statistics.safetensors"


@dataclass(frozen=True)
class Basis:
    """What the statistics were computed from."""

    layers: Mapping[str, int]
    """Channels by layer."""
    classes: tuple[str, ...]
    epsilon: float
    fingerprint: str
    """Fingerprint of the view that holds the descriptors."""
    clips: str
    """Digest of the labels, splits and groups of the training and validation clips."""


@dataclass(frozen=True)
class Sizes:
    """Dimensions of the arrays in a statistics file."""

    validation: int
    """Number of usable validation clips, N."""
    outputs: int
    """Number of network outputs, O; 0 with ``head = "none"``."""
    subsamples: int = 0
    """Largest number of subsamples of one class, D; 0 if classes are of about equal size."""


@dataclass(frozen=True, eq=False)
class ValidationRows:
    """The N usable validation clips, in the order of their keys."""

    labels: Array
    """True class, (N,) int32."""
    groups: Array
    """Index of the group, (N,) int32."""
    keys: Array
    """Bytes of the key, (N, 32) uint8."""
    logits: Array
    """Outputs of the network, (N, O) float32."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Bounds, class sizes, expected deviations, and deviations of validation clips.

    Bounds and deviations may be large, so methods read them from the file, one layer at a time. All else is in memory.
    """

    basis: Basis
    counts: Array
    """Training clips by class, (C,) int64."""
    groups: Array
    """Number of groups of the training clips in each class, (C,) int64."""
    expected: Array
    """E_l (Eq. 11), (L,) float64. If there are subsamples, only clips of the largest classes count."""
    validation: ValidationRows
    subsample_sizes: Array | None
    """Number of clips in each subsample, (C, D) int64; None if classes are of about equal size."""
    file: sealed.Sealed

    @property
    def layers(self) -> Mapping[str, int]:
        """Channels by layer."""
        return self.basis.layers

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels."""
        return self.basis.classes

    @property
    def epsilon(self) -> float:
        """Smallest denominator of a deviation (Eq. 9)."""
        return self.basis.epsilon

    @property
    def digest(self) -> str:
        """SHA-256 of the file. A decision holds it to name its statistics."""
        return self.file.digest

    def expected_of(self, layers: tuple[str, ...]) -> Array:
        """Returns E_l of some layers in the order given, (L',) float64."""
        index = {layer: n for n, layer in enumerate(self.layers)}
        selected: Array = self.expected[[index[layer] for layer in layers]]
        return selected

    def bounds(self, layer: str) -> tuple[Array, Array]:
        """Reads λ and Λ of one layer, each (C, K_l) float32; zeros for a class without training clips.

        Raises:
            DamagedError: They are not finite, or λ is above Λ.
        """
        lower, upper = self.file.numbers(f"lower/{layer}"), self.file.numbers(f"upper/{layer}")
        if (lower > upper).any():
            raise sealed.damaged(self.file, f"lower/{shown(layer)} is above upper/{shown(layer)}")
        return lower, upper

    def validation_deviations(self, layer: str, which: slice | None = None) -> Array:
        """Reads δ_{l,c} of the validation clips, or of a range of them, (N, C) float32.

        Raises:
            DamagedError: A deviation is negative or not finite.
        """
        return self.file.numbers(f"validation/deviation/{layer}", which, least=0)

    def subsample_deviations(self, layer: str) -> Array:
        """Reads δ of the validation clips against subsamples of their own class, (N, D) float32.

        Raises:
            DamagedError: A deviation is negative or not finite.
        """
        return self.file.numbers(f"subsample/deviation/{layer}", least=0)


def shapes(layers: Mapping[str, int], classes: int, sizes: Sizes) -> Shapes:
    """Returns dtype and shape of every tensor of a statistics file."""
    table: dict[str, tuple[str, tuple[int, ...]]] = {
        "counts": ("int64", (classes,)),
        "groups": ("int64", (classes,)),
        "expected": ("float64", (len(layers),)),
        "validation/label": ("int32", (sizes.validation,)),
        "validation/group": ("int32", (sizes.validation,)),
        "validation/key": ("uint8", (sizes.validation, 32)),
        "validation/logits": ("float32", (sizes.validation, sizes.outputs)),
    }
    for layer, channels in layers.items():
        table[f"lower/{layer}"] = table[f"upper/{layer}"] = ("float32", (classes, channels))
        table[f"validation/deviation/{layer}"] = ("float32", (sizes.validation, classes))
        if sizes.subsamples:
            table[f"subsample/deviation/{layer}"] = ("float32", (sizes.validation, sizes.subsamples))
    if sizes.subsamples:
        table["subsample/size"] = ("int64", (classes, sizes.subsamples))
    return table


@contextlib.contextmanager
def create(cache: Path, basis: Basis, sizes: Sizes) -> Iterator[sealed_writer.Arrays]:
    """Yields the arrays of `shapes`, for the caller to fill. When the block ends without an error, the file is written.

    Raises:
        ResourceError: It cannot be written.
    """
    about = {
        "layers": list(basis.layers.items()),
        "classes": list(basis.classes),
        "epsilon": basis.epsilon,
        "fingerprint": basis.fingerprint,
        "clips": basis.clips,
    }
    table = shapes(basis.layers, len(basis.classes), sizes)
    with sealed_writer.create(cache / FILE, "statistics", table, about, below=cache) as arrays:
        yield arrays


def load(cache: Path, fingerprint: str | None = None) -> Statistics:
    """Opens the statistics of a cache.

    Args:
        cache: Folder of the cache.
        fingerprint: Fingerprint of the view that they must be computed from; any if None.

    Raises:
        ArtefactError: There are none yet, or they are from another view.
        DamagedError: The file is damaged.
    """
    file = sealed.load(cache / FILE, "statistics", below=cache)
    about = file.about
    with sealed.reading(file):
        basis = Basis(
            dict(about["layers"]), tuple(about["classes"]), about["epsilon"], about["fingerprint"], about["clips"]
        )
        if not _fits(file, basis):
            raise ValueError("layers, classes and tensors")
    if fingerprint not in (None, basis.fingerprint):
        raise ArtefactError(f"{shown(file.path)}: was made from other descriptors; run gramcli calibrate again")
    with sealed.reading(file):
        labels = file.numbers("validation/label", least=0)
        if (labels >= len(basis.classes)).any():
            raise ValueError("validation/label")
        expected = file.numbers("expected", least=0)
        if ((expected > 0) & (expected < 1 / sealed.LARGEST)).any():  # they are divided by
            raise ValueError("expected")
        return Statistics(
            basis,
            file.numbers("counts", least=0),
            file.numbers("groups", least=0),
            expected,
            ValidationRows(labels, file["validation/group"], file["validation/key"], file.numbers("validation/logits")),
            file.numbers("subsample/size", least=0) if "subsample/size" in file.names else None,
            file,
        )


def _fits(file: sealed.Sealed, basis: Basis) -> bool:
    """Tells whether a file has the tensors that `create` writes."""
    stored = file.shapes()
    subsamples = stored["subsample/size"][1][1] if "subsample/size" in stored else 0
    validation, outputs = stored["validation/logits"][1]
    texts = [*basis.layers, *basis.classes, basis.fingerprint, basis.clips]
    return (
        all(isinstance(text, str) for text in texts)
        and len(set(basis.classes)) == len(basis.classes) > 0
        and isinstance(basis.epsilon, float)
        and is_valid("calibrate", "epsilon", basis.epsilon)
        and stored == shapes(basis.layers, len(basis.classes), Sizes(validation, outputs, subsamples))
    )
