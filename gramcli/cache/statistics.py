"""Statistics of a cache: what calibrate stores, and the check that they still belong to the descriptors.

``statistics.safetensors`` names the view that it was made from. It is sealed (`gramcli.cache.sealed`). Equal
descriptors, labels, splits and groups give equal bytes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from gramcli.cache import regular_file, sealed
from gramcli.errors import ArtefactError
from gramcli.text import shown

Array = npt.NDArray[Any]

FILE = "statistics.safetensors"


@dataclass(frozen=True)
class Basis:
    """What statistics were computed from."""

    layers: Mapping[str, int]
    """Channels by layer."""
    classes: tuple[str, ...]
    epsilon: float
    fingerprint: str
    """Of the view that the descriptors are from."""
    clips: str
    """Digest of the labels, splits and groups of training and validation clips."""


@dataclass(frozen=True)
class Sizes:
    """How many rows and columns the arrays of a statistics file have."""

    validation: int
    """Usable validation clips, N."""
    outputs: int
    """Outputs of the network that are classes, O; 0 with ``head = "none"``."""
    subsamples: int = 0
    """Most subsamples of one class, D; 0 where classes are of about equal size."""


@dataclass(frozen=True, eq=False)
class ValidationRows:
    """The N usable validation clips, in order of their keys."""

    labels: Array
    """Class, (N,) int32."""
    groups: Array
    """Number of the group, (N,) int32."""
    keys: Array
    """Bytes of the clip's key, (N, 32) uint8."""
    logits: Array
    """(N, O) float32."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Bounds, counts, expected deviations, and deviations of validation clips.

    What does not grow with clips times classes is in memory. Methods read the arrays of one layer from the file.
    """

    basis: Basis
    counts: Array
    """Training clips by class, (C,) int64."""
    groups: Array
    """Groups that the training clips of each class are from, (C,) int64."""
    expected: Array
    """E_l of Eq. 11, (L,) float64; of the largest classes where there are subsamples."""
    validation: ValidationRows
    subsample_sizes: Array | None
    """Clips of each subsample of each class, (C, D) int64; None where classes are of about equal size."""
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
        """SHA-256 of the file; decisions name the statistics by it."""
        return self.file.digest

    def expected_of(self, layers: tuple[str, ...]) -> Array:
        """Returns E_l of some layers in the order given, (L',) float64."""
        index = {layer: n for n, layer in enumerate(self.layers)}
        found: Array = self.expected[[index[layer] for layer in layers]]
        return found

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


def shapes(layers: Mapping[str, int], classes: int, sizes: Sizes) -> sealed.Shapes:
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
def create(cache: Path, basis: Basis, sizes: Sizes) -> Iterator[sealed.Arrays]:
    """Yields the arrays of `shapes` to be filled. The file takes its place when the block ends without an error.

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
    with sealed.create(cache / FILE, "statistics", table, about) as arrays:
        yield arrays


def load(cache: Path, fingerprint: str | None = None) -> Statistics:
    """Opens the statistics of a cache.

    Args:
        cache: Its folder.
        fingerprint: Of the view that they must be made from; of any if None.

    Raises:
        ArtefactError: There are none yet, or they are from another view.
        DamagedError: They are not as they were written.
    """
    regular_file.require_regular(cache / FILE)
    file = sealed.load(cache / FILE, "statistics")
    about = file.about
    with sealed.reading(file):
        basis = Basis(
            dict(about["layers"]), tuple(about["classes"]), about["epsilon"], about["fingerprint"], about["clips"]
        )
        if not _fits(file, basis):
            raise ValueError("layers, classes and tensors")
    if fingerprint not in (None, basis.fingerprint):
        raise ArtefactError(f"{shown(file.path)}: was made from other descriptors; run gramcli calibrate again")
    labels = file.numbers("validation/label", least=0)
    if (labels >= len(basis.classes)).any():
        raise sealed.damaged(file, "validation/label names a class that there is not")
    return Statistics(
        basis,
        file.numbers("counts", least=0),
        file.numbers("groups", least=0),
        file.numbers("expected", least=0),
        ValidationRows(labels, file["validation/group"], file["validation/key"], file.numbers("validation/logits")),
        file.numbers("subsample/size", least=0) if "subsample/size" in file.names else None,
        file,
    )


def _fits(file: sealed.Sealed, basis: Basis) -> bool:
    """Tells whether a file has the tensors that `create` lays out."""
    there = file.shapes()
    subsamples = there["subsample/size"][1][1] if "subsample/size" in there else 0
    validation, outputs = there["validation/logits"][1]
    texts = [*basis.layers, *basis.classes, basis.fingerprint, basis.clips]
    return (
        all(isinstance(text, str) for text in texts)
        and len(set(basis.classes)) == len(basis.classes) > 0
        and isinstance(basis.epsilon, float)
        and 0 < basis.epsilon < math.inf
        and there == shapes(basis.layers, len(basis.classes), Sizes(validation, outputs, subsamples))
    )
