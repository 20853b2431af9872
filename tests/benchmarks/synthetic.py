"""Writes caches of drawn descriptors of any size, through `gramcli.cache.write`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gramcli import cache as door

CHUNK = 1000


def write(cache: Path, clips: int, layers: Mapping[str, int], classes: int, *, validation: int, seed: int = 0) -> None:
    """Fills a cache.

    Args:
        cache: Folder, new.
        clips: Training and validation clips together.
        layers: Channels by layer.
        classes: Number of classes, which come in turn.
        validation: How many of them are validation clips.
        seed: Of all numbers.
    """
    rng = np.random.default_rng(seed)
    names = [f"class{c:03d}" for c in range(classes)]
    usual = {layer: rng.random((classes, channels), np.float32) for layer, channels in layers.items()}
    everything = np.arange(clips)
    for split, members in (("train", everything[validation:]), ("validation", everything[:validation])):
        for first in range(0, len(members), CHUNK):
            which = members[first : first + CHUNK]
            labels = which % classes
            logits = rng.normal(size=(len(which), classes)).astype(np.float32)
            logits[np.arange(len(which)), labels] += 2
            door.write(
                [f"clip{n:07d}" for n in which],
                {
                    layer: means[labels] * rng.gamma(4, 1, (len(which), means.shape[1])).astype(np.float32)
                    for layer, means in usual.items()
                },
                logits,
                labels=[names[c] for c in labels],
                splits=[split] * len(which),
                classes=names,
                cache=cache,
            )
