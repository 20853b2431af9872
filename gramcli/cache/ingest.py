"""Writes descriptors that another framework computed into a cache."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli import __version__
from gramcli.cache import clip_table, failures, foreign_files, placement, shard
from gramcli.cache.view import View
from gramcli.dataset.clip import SPLITS, UNKNOWN, Clip
from gramcli.system import folder_lock

Array = npt.NDArray[Any]


def write(
    keys: Sequence[str],
    descriptors: Mapping[str, npt.ArrayLike],
    logits: npt.ArrayLike | None = None,
    *,
    labels: Sequence[str],
    splits: Sequence[str],
    groups: Sequence[str] | None = None,
    classes: Sequence[str] = (),
    network: str = "external",
    cache: str | Path = ".gramcli",
) -> int:
    """Adds clips whose descriptors were computed elsewhere, so that calibrate, select-layers and evaluate can use them.

    Args:
        keys: Name of each of N clips, all different and always the same for the same clip. A clip that is in the cache
            already is not written again, but its label, split and group are updated.
        descriptors: ĝ by layer, raw row sums of the Gram matrix (Eq. 5), (N, K_l) each. A row with a number that is
            not finite makes a failed clip.
        logits: The network's outputs, (N, len(classes)).
        labels: Class of each clip.
        splits: train, validation, test, or unknown (a test clip that is of no class) for each clip.
        groups: Source of each clip, e.g. the recording it was cut from; if None, each clip is a group of its own.
        classes: Labels of the outputs, in order; needed with `logits`.
        network: Name of the network that made the descriptors; part of the cache's identity.
        cache: Folder of the cache.

    Returns:
        Number of clips that are new.

    Raises:
        ValueError: Numbers of rows differ, a key stands twice, a split or label is not allowed, a name is no text or
            empty, or descriptors or logits are no real numbers or have no channels. Nothing is written then.
        UsageError: Files of other programs would be replaced.
        ArtefactError: The cache was made by another network, or with other layers or classes.
        ResourceError: It cannot be written.
        LockedError: Another process writes to the cache.
    """
    groups = list(keys) if groups is None else groups
    for what, texts in (
        ("keys", keys),
        ("labels", labels),
        ("splits", splits),
        ("groups", groups),
        ("classes", classes),
        ("layers", list(descriptors)),
        ("network", [network]),
    ):
        _require_texts(what, texts)
    rows = {layer: _matrix(layer, values, len(keys), least=1) for layer, values in descriptors.items()}
    outputs = np.zeros((len(keys), 0)) if logits is None else _matrix("logits", logits, len(keys), least=0)
    _require_consistent(keys, labels, splits, groups, classes)
    if not rows:
        raise ValueError("descriptors must have at least one layer")
    if outputs.shape[1] != len(classes):
        raise ValueError(f"logits have {outputs.shape[1]} columns, but there are {len(classes)} classes")
    hashed = [hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest() for key in keys]
    folder = Path(cache)
    foreign_files.require_none(folder)
    with folder_lock.lock(folder):
        view = View.create(folder, _identity(network, rows, classes), {"versions": {"gramcli": __version__}})
        done, previous = view.present(), clip_table.read(folder)
        finished = placement.places_in_finished_shards(previous, done)
        given = [
            Clip(name, key, name, "", 0, 0, None, None, label, split, group, None, None)
            for name, key, label, split, group in zip(keys, hashed, labels, splits, groups, strict=True)
        ]
        index = {key: n for n, key in enumerate(hashed)}
        kept = [clip for clip in (previous.rows if previous else ()) if clip.key not in index]
        allotted = placement.assign_places(given, finished, done, placement.rows_per_shard(view.numbers_per_row))
        clip_table.write(folder, [*kept, *allotted], seconds=0.0)
        new = clip_table.by_shard(clip for clip in allotted if clip.key not in finished)
        reasons = failures.read(folder, view, kept)
        for number, group in new.items():
            where = [index[clip.key] for clip in group]
            part = _rows(group, {layer: values[where] for layer, values in rows.items()}, outputs[where])
            reasons |= {key: text for key, text in zip(part.keys, part.status, strict=True) if text != shard.OK}
            failures.write(folder, [*kept, *allotted], reasons)
            view.write(number, part)
    return sum(map(len, new.values()))


def _require_consistent(
    keys: Sequence[str], labels: Sequence[str], splits: Sequence[str], groups: Sequence[str], classes: Sequence[str]
) -> None:
    """Raises a ValueError if numbers differ, a key stands twice, or a split or label is not allowed."""
    for name, values in (("labels", labels), ("splits", splits), ("groups", groups)):
        if len(values) != len(keys):
            raise ValueError(f"there are {len(values)} {name} for {len(keys)} keys; give one per key")
    if len(set(keys)) != len(keys):
        repeated = next(key for key, count in Counter(keys).items() if count > 1)
        raise ValueError(f"keys must all be different, but {repeated!r} stands twice")
    if wrong := sorted(set(splits) - {*SPLITS, UNKNOWN}):
        raise ValueError(f"splits must be among {(*SPLITS, UNKNOWN)}, and {wrong[0]!r} is not")
    known = {label for label, split in zip(labels, splits, strict=True) if split != UNKNOWN}
    unknown = {label for label, split in zip(labels, splits, strict=True) if split == UNKNOWN}
    if classes and (wrong := sorted(known - set(classes))):
        raise ValueError(f"labels must be among the {len(classes)} classes, and {wrong[0]!r} is not")
    if both := sorted(unknown & (known | set(classes))):
        raise ValueError(f"labels of unknown clips must be of no class, but {both[0]!r} is one")


def _require_texts(what: str, texts: Sequence[str]) -> None:
    """Raises a ValueError if a name is no text, is empty, or holds what no file can hold."""
    if isinstance(texts, str):
        raise ValueError(f"{what} must be a list of texts, not one text")
    for text in texts:
        if not isinstance(text, str) or not text or "\0" in text:
            raise ValueError(f"{what} must be texts that are not empty and hold no zero byte, not {text!r}")
        try:
            text.encode("utf-8", "surrogateescape" if what in ("keys", "groups") else "strict")
        except UnicodeEncodeError:
            raise ValueError(f"{what} must be text that can be written as UTF-8, and {text!r} cannot") from None


def _matrix(name: str, values: npt.ArrayLike, rows: int, least: int) -> Array:
    given = np.asarray(values)
    if given.dtype.kind not in "fiub":
        raise ValueError(f"{name} must hold real numbers, not {given.dtype}")
    if given.ndim != 2 or len(given) != rows or given.shape[1] < least:
        raise ValueError(f"{name} has shape {given.shape}, not ({rows}, channels)")
    with np.errstate(over="ignore"):  # a number that float32 cannot hold makes a failed clip
        return given.astype(np.float32)


def _identity(network: str, rows: Mapping[str, Array], classes: Sequence[str]) -> dict[str, Any]:
    return {
        "architecture": network,
        "head": "map" if classes else "none",
        "outputs": list(classes) if classes else 0,
        "layers": [[layer, values.shape[1]] for layer, values in rows.items()],
    }


def _rows(clips: Sequence[Clip], rows: dict[str, Array], logits: Array) -> shard.Shard:
    """Returns a shard in which clips with a number that is not finite are failed ones."""
    columns = [*rows.values(), logits]
    bad = ~np.all([np.isfinite(values).all(axis=1) for values in columns], axis=0)
    for values in columns:
        values[bad] = np.nan
    status = ["descriptor not finite" if failed else shard.OK for failed in bad]
    return shard.Shard(tuple(clip.key for clip in clips), tuple(status), logits, rows)
