"""``gramcli calibrate``: computes class bounds, expected deviations and the deviations of validation clips.

Shards are read one after another. The first pass reads the training clips for the bounds (Eq. 7-8). The second pass
reads the validation clips for their deviations from the bounds (Eq. 9-11). If classes differ in size, the training
clips of large classes are read once more in between, for bounds of subsamples of these classes.

Memory depends on the size of a shard and of the network, and not on the number of clips. Minima and maxima do not
depend on order, and means are rounded once. So the result has the same bits however clips are spread over shards.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache import clip_table, failures, statistics
from gramcli.cache.clip_table import ClipTable
from gramcli.cache.labelled_rows import class_names, label_indices, read_rows, require_extracted, take_rows
from gramcli.cache.sealed_writer import Arrays
from gramcli.cache.statistics import Basis, Sizes, Statistics
from gramcli.cache.view import View
from gramcli.calibration.size_limits import Size
from gramcli.calibration.subsample_bounds import SubsampleBounds
from gramcli.dataset.clip import Clip
from gramcli.errors import DamagedError, NoInputError
from gramcli.gram import kernels
from gramcli.gram.bounds import Bounds
from gramcli.gram.descriptor import constant, normalise
from gramcli.gram.deviation import deviations, touched
from gramcli.gram.kernels import Plan
from gramcli.progress import Progress, Silent
from gramcli.settings.schema import CalibrateSettings
from gramcli.system import folder_lock
from gramcli.system.cpu import cores
from gramcli.text import shown

Array = npt.NDArray[Any]

_MAPPED = 64 * 2**20
"""Bytes of the mapped file after which its memory is freed."""


def calibrate(
    cache: str | Path = ".gramcli", settings: CalibrateSettings | None = None, *, progress: Progress | None = None
) -> Statistics:
    """Computes ``statistics.safetensors`` from the clean view of a cache.

    Args:
        cache: Folder of the cache.
        settings: ε of Eq. 9, and whether to measure what a correction for class sizes needs.
        progress: Receives steps and notes.

    Raises:
        ArtefactError: Nothing was extracted, or some clips are not extracted yet.
        NoInputError: There is no usable training clip, or no usable validation clip.
        DamagedError: A file of the cache is damaged.
        LockedError: Another process writes to the cache.
    """
    cache, settings, progress = Path(cache), settings or CalibrateSettings(), progress or Silent()
    with folder_lock.lock(cache):
        work = _Work.open(cache, settings, progress)
        training, bounds = _training_bounds(work)
        counts = next(iter(bounds.values())).counts
        groups = _groups_by_class(training, work.classes)
        subsample_bounds = None
        if settings.class_size == "level":
            subsample_bounds = SubsampleBounds.gather(work.view, training, work.index, groups, progress)
        basis = Basis(
            work.view.layers,
            work.classes,
            settings.epsilon,
            work.view.fingerprint,
            work.clips.digest("train", "validation"),
        )
        subsamples = 0 if subsample_bounds is None else subsample_bounds.sizes.shape[1]
        sizes = Sizes(len(work.validation), len(work.view.outputs), subsamples)
        with statistics.create(cache, basis, sizes) as arrays:
            arrays["counts"][...] = counts
            arrays["groups"][...] = groups
            if subsample_bounds is not None:
                arrays["subsample/size"][...] = subsample_bounds.sizes
            for layer in _released(arrays, work):
                filled = bounds.pop(layer).filled()
                arrays[f"lower/{layer}"][...], arrays[f"upper/{layer}"][...] = filled.lower, filled.upper
            _write_validation_rows(arrays, work)
            _write_deviations(arrays, work, subsample_bounds)
            _write_expected(arrays, work, subsample_bounds)
            notes = list(_notes(arrays, work, len(training)))
    for note in notes:
        progress.note(note)
    return statistics.load(cache)


@dataclass(frozen=True, eq=False)
class _Work:
    """The input of one calibration, and how it is computed."""

    view: View
    clips: ClipTable
    stored: Mapping[str, Sequence[Clip]]
    """Training and validation clips that have a row, by split. Failed clips are included."""
    validation: Sequence[Clip]
    """Usable validation clips, in the order of their keys."""
    classes: tuple[str, ...]
    settings: CalibrateSettings
    progress: Progress
    plan: Plan
    constant: Counter[str] = field(default_factory=Counter)
    """Number of clips whose descriptor is constant over the channels, by layer. It grows as clips are read."""

    @classmethod
    def open(cls, cache: Path, settings: CalibrateSettings, progress: Progress) -> _Work:
        view, clips = View.open(cache), clip_table.require(cache)
        stored = {split: clips.used(split) for split in ("train", "validation")}
        require_extracted(view, [*stored["train"], *stored["validation"]])
        failed = failures.read(cache, view, clips.rows)
        usable = {split: [clip for clip in stored[split] if clip.key not in failed] for split in stored}
        for split, needed_for in (("train", "bounds"), ("validation", "expected deviations")):
            if not usable[split]:
                raise NoInputError(
                    f"{shown(cache)}: no usable {split} clips, which the {needed_for} need; see failures.csv"
                )
        classes = class_names(view, clips)
        channels = sum(view.layers.values())
        Size(len(classes), len(view.layers), channels, len(usable["validation"])).require_possible()
        steps = channels * (len(usable["train"]) + len(classes) * len(usable["validation"]))
        plan = kernels.plan(steps, cores())
        return cls(view, clips, stored, usable["validation"], classes, settings, progress, plan)

    @property
    def index(self) -> dict[str, int]:
        """Index of each class."""
        return {label: n for n, label in enumerate(self.classes)}

    def scale(self, descriptors: Array, where: npt.NDArray[np.intp], layer: str) -> npt.NDArray[np.float32]:
        """Returns g̃ of some rows of a shard, and counts the constant ones."""
        scaled = normalise(take_rows(descriptors, where), self.plan)
        self.constant[layer] += int(constant(scaled).sum())
        return scaled


def _training_bounds(work: _Work) -> tuple[list[Clip], dict[str, Bounds]]:
    """First pass: returns the usable training clips in the order of their keys, and the bounds by layer."""
    index, layers = work.index, work.view.layers
    bounds = {layer: Bounds.empty(len(index), channels) for layer, channels in layers.items()}
    training: list[Clip] = []
    work.progress.start("bounds", len(work.stored["train"]))
    for group, rows, where in read_rows(work.view, work.stored["train"], done=work.progress.advance):
        labels = label_indices(group, index)
        for layer, bound in bounds.items():
            bound.update(work.scale(rows.descriptors[layer], where, layer), labels, work.plan)
        training += group
    return sorted(training, key=lambda clip: clip.key), bounds


def _groups_by_class(training: Sequence[Clip], classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Returns the number of groups of the training clips in each class, (C,)."""
    count = Counter(label for label, _ in {(clip.label, clip.group) for clip in training})
    return np.array([count[label] for label in classes], np.int64)


def _write_validation_rows(arrays: Mapping[str, Array], work: _Work) -> None:
    clips = work.validation
    groups = {group: n for n, group in enumerate(sorted({clip.group for clip in clips}))}
    keys = bytes.fromhex("".join(clip.key for clip in clips))
    arrays["validation/label"][...] = label_indices(clips, work.index)
    arrays["validation/group"][...] = [groups[clip.group] for clip in clips]
    arrays["validation/key"][...] = np.frombuffer(keys, np.uint8).reshape(-1, 32)


def _write_deviations(arrays: Arrays, work: _Work, subsample_bounds: SubsampleBounds | None) -> None:
    """Second pass: writes δ of validation clips against all classes, and against subsamples of their own class."""
    view, index = work.view, work.index
    row_of = {clip.key: n for n, clip in enumerate(work.validation)}
    count = 0
    work.progress.start("deviations", len(work.stored["validation"]))
    for group, rows, where in read_rows(view, work.stored["validation"], done=work.progress.advance):
        labels = label_indices(group, index)
        if not all(clip.key in row_of for clip in group):
            raise _other_failures(view)
        targets = [row_of[clip.key] for clip in group]
        count += len(targets)
        if view.outputs:
            arrays["validation/logits"][targets] = rows.logits[where]
        for layer in _released(arrays, work, len(group)):
            scaled = work.scale(rows.descriptors[layer], where, layer)
            lower, upper = arrays[f"lower/{layer}"], arrays[f"upper/{layer}"]
            arrays[f"validation/deviation/{layer}"][targets] = deviations(
                scaled, lower, upper, work.settings.epsilon, work.plan
            )
            if subsample_bounds is not None:
                own = subsample_bounds.deviations(layer, scaled, labels, work.settings.epsilon)
                arrays[f"subsample/deviation/{layer}"][targets] = own
        arrays.release()
    if count < len(row_of):
        raise _other_failures(view)


def _released(arrays: Arrays, work: _Work, clips: int = 0) -> Iterator[str]:
    """Yields the layers, and frees the memory of the mapped file each time that `_MAPPED` bytes of it were used.

    Args:
        arrays: Arrays of the file. Bounds of each layer are used, and its deviations of some clips.
        work: Layers and classes.
        clips: Number of these clips.
    """
    used = 0
    for layer, channels in work.view.layers.items():
        yield layer
        used += 4 * len(work.classes) * (2 * channels + clips)
        if used >= _MAPPED:
            arrays.release()
            used = 0


def _other_failures(view: View) -> DamagedError:
    path = view.folder.parents[1] / failures.FILE
    return DamagedError(
        f"{shown(path)}: does not list the failed clips of the shards; delete it and run gramcli calibrate again"
    )


def _write_expected(arrays: Arrays, work: _Work, subsample_bounds: SubsampleBounds | None) -> None:
    """Writes E_l (Eq. 11): the mean δ of validation clips against their own class.

    If evidence is corrected for class sizes, E_l is the mean over clips of the largest classes. Clips of small classes
    deviate much more. Divided by their mean, deviations of large classes would fall below the floor η of the evidence.
    """
    counts, labels = arrays["counts"], arrays["validation/label"]
    present = counts > 0
    largest = present if subsample_bounds is None else counts >= subsample_bounds.sizes.max()
    for n, layer in enumerate(work.view.layers):
        own = arrays[f"validation/deviation/{layer}"][np.arange(len(labels)), labels]
        # if all clips of the largest classes are inside their bounds at this layer, all classes count
        arrays["expected"][n] = _mean(own[largest[labels]]) or _mean(own[present[labels]])
        arrays.release()


def _mean(values: Array) -> float:
    """Returns the mean, rounded so that the order of values does not matter; 0 without values."""
    return math.fsum(values.tolist()) / len(values) if len(values) else 0.0


def _notes(arrays: Arrays, work: _Work, training: int) -> Iterator[str]:
    """Yields notes for the user: classes without clips, class sizes, and layers that need attention."""
    counts, expected, epsilon, view = arrays["counts"], arrays["expected"], work.settings.epsilon, work.view
    validation_counts = np.bincount(arrays["validation/label"], minlength=len(work.classes))
    for what, which in (
        ("without training clips, so never chosen", counts == 0),
        ("with one training clip, whose bounds have no width", counts == 1),
        ("without validation clips", validation_counts == 0),
    ):
        if which.any():
            yield f"classes {what}: {_some([label for label, yes in zip(work.classes, which, strict=True) if yes])}"
    sizes = counts[counts > 0]
    corrected = "subsample/size" in arrays
    if sizes.max() > 2 * sizes.min() or corrected:
        correction = "the rule fused is corrected for it" if corrected else "nothing corrects for it"
        yield (
            f"classes have {sizes.min()} to {sizes.max()} training clips, and wider bounds favour the large ones (a "
            f"new clip is outside a channel's range with {2 / (sizes.max() + 1):.1%} to {2 / (sizes.min() + 1):.1%} "
            f"probability); {correction}"
        )
    raised = sum(
        touched(arrays[f"lower/{layer}"], arrays[f"upper/{layer}"], counts, epsilon)
        for layer in _released(arrays, work)
    )
    if raised:
        total = sum(view.layers.values()) * int(np.count_nonzero(counts))
        yield f"epsilon {epsilon:g} is the denominator of {raised} of {total} upper bounds ({raised / total:.1%})"
    constants = [layer for layer in view.layers if work.constant[layer]]
    if constants:
        yield f"layers whose descriptor is constant over channels in some clips and taken as 0: {_some(constants)}"
    unused = [layer for layer, mean in zip(view.layers, expected, strict=True) if mean == 0]
    if unused:
        yield f"layers left out, as all validation clips are inside their bounds (E_l = 0): {_some(unused)}"
    yield f"{training} training and {len(work.validation)} validation clips, {len(work.classes)} classes"


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return shown(", ".join(names[:most])) + more
