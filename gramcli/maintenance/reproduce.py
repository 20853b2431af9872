"""``gramcli cache verify --replay``: some clips computed once more, here and now, beside what the cache holds."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.audio.decoder_pool import Decoders
from gramcli.cache import clip_table
from gramcli.cache.labelled_rows import read_rows
from gramcli.cache.shard import OK, Shard
from gramcli.cache.view import View
from gramcli.dataset.clip import Clip
from gramcli.errors import NoInputError
from gramcli.extraction.compute import compute_shards
from gramcli.extraction.reopen import reopen_network
from gramcli.gram.descriptor import normalise
from gramcli.maintenance.audio_files import compare_audio
from gramcli.progress import Progress, Silent
from gramcli.system.versions import versions
from gramcli.text import shown

Array = npt.NDArray[np.float32]

TOLERANCE = 5e-5
"""Largest difference of g̃ between machines, in fp32."""


@dataclass(frozen=True)
class Reproduction:
    """What computing clips again has shown."""

    clips: int
    identical: int
    """Of these, with the same bits in every layer and in the logits."""
    difference: float
    """Largest |Δg̃|."""
    where: str
    """The clip and layer that it was found in."""
    logits: float
    """Largest difference of a logit; 0 where there are none."""
    tolerance: float | None
    """What `difference` may be; None where nothing is promised."""
    versions: tuple[str, ...]
    """What differs in version from when the cache was made."""

    @property
    def fits(self) -> bool:
        """Whether the difference is one that machines may have."""
        return self.tolerance is None or self.difference <= self.tolerance


def reproduce(
    cache: Path,
    count: int,
    *,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    config: Path | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Draws clips of the cache, computes them again, and compares.

    Args:
        cache: Folder of the cache.
        count: Clips, at most; of those whose audio is still there.
        flags: Settings of how to run, over those of the extract, by section and key.
        config: A settings file.
        progress: Told of tasks, steps and notes.

    Raises:
        ArtefactError: Nothing was extracted, or the network is no longer what it was.
        DamagedError: The cache is damaged.
        NoInputError: No clip can be computed again.
        ResourceError: The device is missing.
    """
    progress = progress or Silent()
    view, rows = View.open(cache), clip_table.require(cache).rows
    present = view.present()
    drawn = list({clip.key: clip for clip in rows if clip.split and clip.shard in present}.values())
    drawn = random.Random(0).sample(drawn, min(count, len(drawn)))
    settings, ready = reopen_network(view, flags, config)
    found: list[_Found] = []
    with Decoders.of(settings) as decoders:
        heard = compare_audio(drawn, decoders, progress)
        if heard.lost:
            progress.note(f"{len(heard.lost)} audio files are gone or changed, and left out")
        progress.start("computing again", len(drawn))
        for group, stored, where in read_rows(view, [clip for clip in drawn if clip.path not in heard.lost]):
            if group:
                ((_, anew),) = compute_shards({0: group}, ready, decoders, settings, progress)
                found += [
                    _compare(clip, stored, row, anew, n) for n, (clip, row) in enumerate(zip(group, where, strict=True))
                ]
    if not found:
        raise NoInputError(f"{shown(cache)}: no clip whose audio is there as it was, so none can be computed again")
    worst = max(found, key=lambda one: one.difference)
    before = view.recorded.get("versions", {})
    return Reproduction(
        len(found),
        sum(one.identical for one in found),
        worst.difference,
        worst.where,
        max(one.logits for one in found),
        TOLERANCE if view.identity["precision"] == "fp32" else None,
        tuple(f"{part} {before.get(part)} → {now}" for part, now in versions().items() if before.get(part) != now),
    )


@dataclass(frozen=True)
class _Found:
    """What became of one clip."""

    where: str
    identical: bool
    difference: float
    logits: float


def _compare(clip: Clip, stored: Shard, row: int, found: Shard, n: int) -> _Found:
    """Compares a row of the cache with one computed now; a clip that fails now differs without limit."""
    if found.status[n] != OK:
        return _Found(f"{shown(clip.id)}: {found.status[n]}", False, math.inf, math.inf)
    pairs = {layer: (values[row], found.descriptors[layer][n]) for layer, values in stored.descriptors.items()}
    far = {layer: _largest(normalise(one[None]), normalise(other[None])) for layer, (one, other) in pairs.items()}
    worst = max(far, key=lambda layer: far[layer])
    logits = stored.logits[row], found.logits[n]
    same = all(np.array_equal(one, other) for one, other in (*pairs.values(), logits))
    return _Found(f"{shown(clip.id)}, layer {shown(worst)}", same, far[worst], _largest(*logits))


def _largest(one: Array, other: Array) -> float:
    return float(np.abs(one - other).max(initial=0.0))
