"""``gramcli calibrate``: from descriptors and labels to bounds, expected deviations and validation deviations.

Shards are read one after another, those of training clips for the bounds (Eq. 7-8), then those of validation clips for
the deviations from them (Eq. 9-11), so memory depends on the size of a shard and of the network, not on the number of
clips. Extremes merge and means are exactly rounded, so the result is the same, bit for bit, however the clips are
spread over shards. Where classes differ in size, the training clips are read once more between the two, for bounds of
parts of the larger classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache import clip_table, statistics
from gramcli.cache.labelled_rows import class_names, label_indices, read_rows, require_extracted, take_rows
from gramcli.cache.sealed import Arrays
from gramcli.cache.statistics import Statistics
from gramcli.cache.view import View
from gramcli.calibration.subsample_bounds import SubsampleBounds
from gramcli.dataset.clip import Clip
from gramcli.errors import NoInputError
from gramcli.gram import kernels
from gramcli.gram.bounds import Bounds
from gramcli.gram.descriptor import constant, normalise
from gramcli.gram.deviation import deviations, touched
from gramcli.gram.exact_mean import ExactMean
from gramcli.progress import Progress, Silent
from gramcli.settings.schema import CalibrateSettings
from gramcli.system import durable_files
from gramcli.system.cpu import cores
from gramcli.text import shown

Array = npt.NDArray[Any]


def calibrate(
    cache: str | Path = ".gramcli", settings: CalibrateSettings | None = None, *, progress: Progress | None = None
) -> Statistics:
    """Writes ``statistics.safetensors`` from the clean view of a cache.

    Args:
        cache: Folder of the cache.
        settings: ε of Eq. 9, and whether to learn what class size does.
        progress: Told of steps and of everything that was treated specially.

    Raises:
        ArtefactError: Nothing was extracted, or clips are still missing.
        NoInputError: No usable training or validation clip.
        DamagedError: A file of the cache is not as it was written.
        LockedError: Another process writes to the cache.
    """
    cache, settings, progress = Path(cache), settings or CalibrateSettings(), progress or Silent()
    with durable_files.lock(cache):
        view, clips = View.open(cache), clip_table.require(cache)
        chosen = {split: clips.used(split) for split in ("train", "validation")}
        require_extracted(view, [*chosen["train"], *chosen["validation"]])
        classes = class_names(view, clips)
        index = {label: n for n, label in enumerate(classes)}
        kernels.announce(sum(view.layers.values()) * (len(chosen["train"]) + len(classes) * len(chosen["validation"])))
        flat = dict.fromkeys(view.layers, 0)
        bounds, found = _bounds(view, chosen, index, flat, progress)
        for split, missing_for in (("train", "bounds"), ("validation", "E_l")):
            if not found[split]:
                raise NoInputError(f"{shown(cache)}: no usable {split} clips, so no {missing_for}; see failures.csv")
        counts = next(iter(bounds.values())).counts
        recordings = Counter(label for label, _ in {(clip.label, clip.group) for clip in found["train"]})
        groups = np.array([recordings[label] for label in classes])
        smaller = None
        if settings.class_size == "level":
            smaller = SubsampleBounds.gather(view, found["train"], index, counts, groups, progress)
        with statistics.create(
            cache,
            view.layers,
            classes,
            epsilon=settings.epsilon,
            fingerprint=view.fingerprint,
            clips=clips.digest("train", "validation"),
            validation=len(found["validation"]),
            outputs=len(view.outputs),
            subsamples=0 if smaller is None else smaller.sizes.shape[1],
        ) as arrays:
            arrays["counts"][...] = counts
            arrays["groups"][...] = groups
            if smaller is not None:
                arrays["subsample/size"][...] = smaller.sizes
            for layer in list(bounds):
                filled = bounds.pop(layer).filled()
                arrays[f"lower/{layer}"][...], arrays[f"upper/{layer}"][...] = filled.lower, filled.upper
            _validation_rows(arrays, found["validation"], index)
            _deviations(view, found["validation"], index, arrays, settings.epsilon, smaller, flat, progress)
            notes = list(_notes(view, found, classes, arrays, settings, flat))
    for note in notes:
        progress.note(note)
    return statistics.load(cache)


def _bounds(
    view: View,
    chosen: Mapping[str, Sequence[Clip]],
    index: Mapping[str, int],
    flat: dict[str, int],
    progress: Progress,
) -> tuple[dict[str, Bounds], dict[str, list[Clip]]]:
    """First pass: bounds over training clips, and which clips are usable, in order of their keys.

    Adds to `flat` the clips whose descriptor is constant, by layer.
    """
    bounds = {layer: Bounds.empty(len(index), channels) for layer, channels in view.layers.items()}
    found: dict[str, list[Clip]] = {"train": [], "validation": []}
    progress.start("bounds", sum(map(len, chosen.values())))
    for group, rows, where in read_rows(view, chosen["train"], done=progress.advance):
        labels = label_indices(group, index)
        for layer, bound in bounds.items():
            scaled = normalise(take_rows(rows.descriptors[layer], where))
            flat[layer] += int(constant(scaled).sum())
            bound.update(scaled, labels)
        found["train"] += group
    for group, _, _ in read_rows(view, chosen["validation"], layers=(), done=progress.advance):
        found["validation"] += group
    return bounds, {split: sorted(clips, key=lambda clip: clip.key) for split, clips in found.items()}


def _validation_rows(arrays: Mapping[str, Array], clips: Sequence[Clip], index: Mapping[str, int]) -> None:
    groups = {group: n for n, group in enumerate(sorted({clip.group for clip in clips}))}
    arrays["validation/label"][...] = label_indices(clips, index)
    arrays["validation/group"][...] = [groups[clip.group] for clip in clips]
    arrays["validation/key"][...] = np.frombuffer(bytes.fromhex("".join(clip.key for clip in clips)), np.uint8).reshape(
        -1, 32
    )


def _deviations(
    view: View,
    clips: Sequence[Clip],
    index: Mapping[str, int],
    arrays: Arrays,
    epsilon: float,
    smaller: SubsampleBounds | None,
    flat: dict[str, int],
    progress: Progress,
) -> None:
    """Last pass: δ of validation clips by layer and class, and E_l; adds to `flat` as the first pass does.

    Where evidence is brought to one class size, E_l is that of the largest classes. In units of what clips of small
    ones show, theirs would be next to nothing, and lost below the floor of the evidence.
    """
    layers = list(view.layers)
    present = arrays["counts"] > 0
    largest = present if smaller is None else arrays["counts"] >= smaller.sizes.max()
    expected, expected_of_all = ExactMean((len(layers),)), ExactMean((len(layers),))
    place = {clip.key: n for n, clip in enumerate(clips)}
    threads = cores()
    progress.start("deviations", len(clips))
    for group, rows, where in read_rows(view, clips, done=progress.advance):
        labels = label_indices(group, index)
        spots = [place[clip.key] for clip in group]
        if view.outputs:
            arrays["validation/logits"][spots] = rows.logits[where]
        own = np.zeros((len(group), len(layers)), np.float32)
        for n, layer in enumerate(layers):
            scaled = normalise(take_rows(rows.descriptors[layer], where), threads)
            flat[layer] += int(constant(scaled).sum())
            far = deviations(scaled, arrays[f"lower/{layer}"], arrays[f"upper/{layer}"], epsilon, threads)
            own[:, n] = far[np.arange(len(group)), labels]
            arrays[f"validation/deviation/{layer}"][spots] = far
            if smaller is not None:
                parted = smaller.deviations(layer, scaled, labels, epsilon)
                arrays[f"subsample/deviation/{layer}"][spots] = parted
        for mean, classes in ((expected, largest), (expected_of_all, present)):
            mean.add(own, np.broadcast_to(classes[labels][:, None], own.shape))
        arrays.release()
    # a layer of which the largest classes say nothing is measured with the others
    arrays["expected"][...] = np.where(expected.mean() > 0, expected.mean(), expected_of_all.mean())


def _notes(
    view: View,
    found: Mapping[str, Sequence[Clip]],
    classes: Sequence[str],
    arrays: Mapping[str, Array],
    settings: CalibrateSettings,
    flat: Mapping[str, int],
) -> Iterator[str]:
    """Says what was treated specially, so that no number is better than it looks."""
    counts, expected, epsilon = arrays["counts"], arrays["expected"], settings.epsilon
    validated = np.bincount(arrays["validation/label"], minlength=len(classes))
    for what, bad in (
        ("without training clips, so never chosen", counts == 0),
        ("with one training clip: its bounds have no width", counts == 1),
        ("without validation clips", validated == 0),
    ):
        if bad.any():
            yield f"classes {what}: {_some([label for label, yes in zip(classes, bad, strict=True) if yes])}"
    seen = counts[counts > 0]
    if seen.max() > 2 * seen.min() or "subsample/size" in arrays:
        levelled = "the rule fused makes up for it" if "subsample/size" in arrays else "nothing makes up for it"
        yield (
            f"classes have {seen.min()} to {seen.max()} training clips: wider bounds favour the large ones (chance to "
            f"fall outside a channel's range: {2 / (seen.max() + 1):.1%} to {2 / (seen.min() + 1):.1%}); {levelled}"
        )
    raised = sum(touched(arrays[f"lower/{layer}"], arrays[f"upper/{layer}"], counts, epsilon) for layer in view.layers)
    if raised:
        total = sum(view.layers.values()) * int(np.count_nonzero(counts))
        yield f"epsilon {epsilon:g} is the denominator of {raised} of {total} upper bounds ({raised / total:.1%})"
    if any(flat.values()):
        constants = [layer for layer, clips in flat.items() if clips]
        yield f"layers that are constant over their channels in some clips, taken as 0: {_some(constants)}"
    silent = [layer for layer, mean in zip(view.layers, expected, strict=True) if mean == 0]
    if silent:
        yield f"layers left out, since no validation clip leaves their bounds (E_l = 0): {_some(silent)}"
    yield f"{len(found['train'])} training and {len(found['validation'])} validation clips, {len(classes)} classes"


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return shown(", ".join(names[:most])) + more
