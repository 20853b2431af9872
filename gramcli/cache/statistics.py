"""What calibrate leaves behind, and how the next stage finds out whether it still fits.

``statistics.safetensors`` names the view it was made from. It is sealed (`gramcli.cache.sealed`), and equal
descriptors, labels, splits and groups give equal bytes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from gramcli.cache import regular_file, sealed
from gramcli.errors import ArtefactError, DamagedError
from gramcli.text import shown

Array = npt.NDArray[Any]

FILE = "statistics.safetensors"


@dataclass(frozen=True)
class Statistics:
    """Bounds, counts, E_l and deviations of validation clips; arrays of one layer are read when asked for."""

    file: sealed.Sealed
    layers: Mapping[str, int]
    """Channels by layer."""
    classes: tuple[str, ...]
    epsilon: float
    fingerprint: str
    """Of the view the descriptors are from."""
    clips: str
    """Digest of the labels, splits and groups it was made with."""

    @property
    def counts(self) -> Array:
        """Training clips by class, (C,) int64."""
        return self.file.numbers("counts", least=0)

    @property
    def expected(self) -> Array:
        """E_l of Eq. 11, (L,) float64; of the largest classes where there are subsamples."""
        return self.file.numbers("expected", least=0)

    def bounds(self, layer: str) -> tuple[Array, Array]:
        """Returns λ and Λ of one layer, each (C, K_l) float32; zeros for a class without training clips."""
        lower, upper = self.file.numbers(f"lower/{layer}"), self.file.numbers(f"upper/{layer}")
        if (lower > upper).any():
            raise damaged(self.file)
        return lower, upper

    def validation_deviations(self, layer: str, which: slice | None = None) -> Array:
        """Returns δ_{l,c} of the validation clips, or of some, (N, C) float32, in order of their keys."""
        return self.file.numbers(f"validation/deviation/{layer}", which, least=0)

    @property
    def subsample_sizes(self) -> Array | None:
        """Clips of each subsample of each class, (C, D) int64; None where classes are of about equal size."""
        return self.file.numbers("subsample/size", least=0) if "subsample/size" in self.file.names else None

    def subsample_deviations(self, layer: str) -> Array:
        """Returns δ of the validation clips against subsamples of their own class, (N, D) float32."""
        return self.file.numbers(f"subsample/deviation/{layer}", least=0)

    @property
    def validation_labels(self) -> Array:
        """Class of each validation clip, (N,) int32."""
        labels = self.file.numbers("validation/label", least=0)
        if (labels >= len(self.classes)).any():
            raise damaged(self.file)
        return labels

    @property
    def validation_logits(self) -> Array:
        """Logits of the validation clips, (N, outputs) float32."""
        return self.file.numbers("validation/logits")


def shapes(
    layers: Mapping[str, int], classes: int, validation: int, outputs: int, subsamples: int = 0
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Returns dtype and shape of every tensor of a statistics file; without subsamples it says nothing of them."""
    table: dict[str, tuple[str, tuple[int, ...]]] = {
        "counts": ("int64", (classes,)),
        "groups": ("int64", (classes,)),
        "expected": ("float64", (len(layers),)),
        "validation/label": ("int32", (validation,)),
        "validation/group": ("int32", (validation,)),
        "validation/key": ("uint8", (validation, 32)),
        "validation/logits": ("float32", (validation, outputs)),
    }
    for layer, channels in layers.items():
        table[f"lower/{layer}"] = table[f"upper/{layer}"] = ("float32", (classes, channels))
        table[f"validation/deviation/{layer}"] = ("float32", (validation, classes))
        if subsamples:
            table[f"subsample/deviation/{layer}"] = ("float32", (validation, subsamples))
    if subsamples:
        table["subsample/size"] = ("int64", (classes, subsamples))
    return table


@contextlib.contextmanager
def create(
    cache: Path,
    layers: Mapping[str, int],
    classes: Sequence[str],
    *,
    epsilon: float,
    fingerprint: str,
    clips: str,
    validation: int,
    outputs: int,
    subsamples: int = 0,
) -> Iterator[sealed.Arrays]:
    """Yields the arrays of `shapes` to be filled; the file takes its place when the block ends well."""
    about = {
        "layers": list(layers.items()),
        "classes": list(classes),
        "epsilon": epsilon,
        "fingerprint": fingerprint,
        "clips": clips,
    }
    table = shapes(layers, len(classes), validation, outputs, subsamples)
    with sealed.create(cache / FILE, "statistics", table, about) as arrays:
        yield arrays


def load(cache: Path, fingerprint: str | None = None) -> Statistics:
    """Opens the statistics of a cache.

    Args:
        cache: Its folder.
        fingerprint: Of the view they must be made from.

    Raises:
        ArtefactError: There are none yet, or they are from another view.
        DamagedError: They are not as they were written.
    """
    regular_file.require_regular(cache / FILE)
    file = sealed.load(cache / FILE, "statistics", "run gramcli calibrate")
    about = file.about
    try:
        layers, classes = dict(about["layers"]), tuple(about["classes"])
        statistics = Statistics(file, layers, classes, about["epsilon"], about["fingerprint"], about["clips"])
        if not _fits(statistics):
            raise damaged(file)
    except (KeyError, TypeError, ValueError, IndexError):
        raise damaged(file) from None
    if fingerprint not in (None, statistics.fingerprint):
        raise ArtefactError(f"{shown(file.path)}: was made from other descriptors; run gramcli calibrate again")
    return statistics


def _fits(found: Statistics) -> bool:
    """Tells whether a file has what `create` lays out: whoever can write one can seal it."""
    there = found.file.shapes()
    subsamples = there["subsample/size"][1][1] if "subsample/size" in there else 0
    validation, outputs = there["validation/logits"][1]
    texts = [*found.layers, *found.classes, found.fingerprint, found.clips]
    return (
        all(isinstance(text, str) for text in texts)
        and len(set(found.classes)) == len(found.classes) > 0
        and isinstance(found.epsilon, float)
        and 0 < found.epsilon < math.inf
        and there == shapes(found.layers, len(found.classes), validation, outputs, subsamples)
    )


def damaged(file: sealed.Sealed) -> DamagedError:
    """Returns the error of a sealed file that is whole but does not hold what it must."""
    return DamagedError(f"{shown(file.path)}: does not say what it must; delete it and run its stage again")
