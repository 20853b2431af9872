"""``gramcli cache verify --replay``: computes some clips again and compares them with the cache."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gramcli.audio.decoder_pool import Decoders
from gramcli.cache import clip_table
from gramcli.cache.labelled_rows import read_rows
from gramcli.cache.shard import OK, Shard
from gramcli.cache.view import View
from gramcli.dataset.clip import Clip
from gramcli.errors import NoInputError
from gramcli.extraction.compute import Extractor, compute_shards
from gramcli.extraction.reopen import reopen_network
from gramcli.gram.descriptor import normalise
from gramcli.maintenance.audio_files import compare_audio
from gramcli.settings.run_context import RunContext
from gramcli.system.versions import versions
from gramcli.text import shown

Array = npt.NDArray[np.float32]

TOLERANCE = 5e-5
"""Largest difference of g̃ between machines, in fp32."""


@dataclass(frozen=True)
class Reproduction:
    """Outcome of computing clips again."""

    clips: int
    identical: int
    """Clips with the same bits in every layer and in the logits."""
    difference: float
    """Largest |Δg̃|."""
    where: str
    """The clip and layer that it was found in."""
    logits: float
    """Largest difference of a logit; 0 without logits."""
    tolerance: float | None
    """Largest acceptable `difference`; None where none is stated."""
    versions: tuple[str, ...]
    """Software versions that have changed since the cache was made."""

    @property
    def fits(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.tolerance is None or self.difference <= self.tolerance


def reproduce(cache: Path, count: int, context: RunContext | None = None) -> Reproduction:
    """Draws clips of the cache at random, computes them again, and compares.

    Args:
        cache: Folder of the cache.
        count: Most clips to compute; those whose audio file has changed or is missing are left out.
        context: Settings of how to run, and progress.

    Raises:
        ArtefactError: Nothing was extracted, or the network has changed since or is not known.
        DamagedError: The cache is damaged.
        NoInputError: No clip can be computed again.
        ResourceError: The device is missing.
    """
    context = context or RunContext()
    view, rows = View.open(cache), clip_table.require(cache).rows
    present = view.present()
    drawn = list({clip.key: clip for clip in rows if clip.split and clip.shard in present}.values())
    drawn = random.Random(0).sample(drawn, min(count, len(drawn)))
    settings, ready = reopen_network(view, context)
    found: list[_Found] = []
    with Decoders.of(settings) as decoders:
        audio = compare_audio(drawn, decoders, context.progress)
        if audio.lost:
            context.progress.note(
                f"{len(audio.lost)} audio files have changed or are missing; their clips are left out"
            )
        extractor = Extractor(ready, decoders, settings, context.progress)
        context.progress.start("computing again", len(drawn))
        for group, stored, where in read_rows(view, [clip for clip in drawn if clip.path not in audio.lost]):
            if group:
                ((_, recomputed),) = compute_shards(extractor, {0: group})
                found += [
                    _compare(clip, stored, row, recomputed, n)
                    for n, (clip, row) in enumerate(zip(group, where, strict=True))
                ]
    if not found:
        raise NoInputError(
            f"{shown(cache)}: the audio files of these clips have changed or are missing, so none can be computed again"
        )
    worst = max(found, key=lambda one: one.difference)
    before = view.recorded.get("versions", {})
    return Reproduction(
        len(found),
        sum(one.identical for one in found),
        worst.difference,
        worst.where,
        max(one.logits for one in found),
        TOLERANCE if view.identity.get("precision") == "fp32" else None,
        tuple(f"{part} {before.get(part)} → {now}" for part, now in versions().items() if before.get(part) != now),
    )


@dataclass(frozen=True)
class _Found:
    """Comparison of one clip."""

    where: str
    identical: bool
    difference: float
    logits: float


def _compare(clip: Clip, stored: Shard, row: int, found: Shard, n: int) -> _Found:
    """Compares a row of the cache with one computed now; the difference of a clip that fails now is infinite."""
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
