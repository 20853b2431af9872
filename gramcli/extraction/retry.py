"""Another try at the clips whose row in a shard is a failed one; shards get a new generation, never a change."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from gramcli.audio.decoder_pool import Decoders
from gramcli.cache import clip_table, failures, shard
from gramcli.cache.shard import Shard
from gramcli.cache.view import View
from gramcli.dataset.clip import Clip
from gramcli.extraction.compute import compute_shards
from gramcli.network.prepare import PreparedNetwork
from gramcli.progress import Progress
from gramcli.settings.schema import Settings


def retry_failed_clips(
    cache: Path,
    view: View,
    rows: Iterable[Clip],
    reasons: Mapping[str, str],
    ready: PreparedNetwork,
    decoders: Decoders,
    settings: Settings,
    progress: Progress,
) -> dict[str, str]:
    """Computes failed rows again; a shard of which one is usable now is committed anew, its other rows as they were.

    Args:
        cache: Folder of the cache; the list of failures is gone from it afterwards, as its shards know better.
        view: Where the shards are.
        rows: All clips.
        reasons: Why clips failed, by key.
        ready: The network.
        decoders: What reads the audio.
        settings: Batch, window and front end.
        progress: Told of every clip, and of what became of them.

    Returns:
        Why clips are still not usable, by key.

    Raises:
        DamagedError: A shard is not as it was written.
        ResourceError: A shard cannot be written.
    """
    present = view.present()
    failed = (clip for clip in rows if clip.split and clip.key in reasons and clip.shard in present)
    todo = {
        number: list({clip.row: clip for clip in group}.values())
        for number, group in clip_table.by_shard(failed).items()
    }
    total = sum(map(len, todo.values()))
    if not total:
        return dict(reasons)
    failures.forget(cache)  # were the run killed, the list would outlive the failures
    progress.start("trying again", total)
    left = dict(reasons)
    for number, again in compute_shards(todo, ready, decoders, settings, progress):
        left.update(zip(again.keys, again.status, strict=True))
        if any(again.usable()):
            places = [clip.row for clip in todo[number] if clip.row is not None]
            before = view.read(number, with_means=view.with_means)
            view.write(number, _replaced(before, places, again), view.generations(number)[-1] + 1)
    left = {key: reason for key, reason in left.items() if reason != shard.OK}
    usable = len(reasons) - len(left)
    progress.note(
        f"{total} clips tried again: {usable} are usable now" + ("; calibrate again to use them" if usable else "")
    )
    return left


def _replaced(before: Shard, places: list[int], again: Shard) -> Shard:
    """Returns the rows of a shard with those at some places exchanged."""

    def exchanged(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        rows = old.copy()
        rows[places] = new
        return rows

    status = list(before.status)
    for place, text in zip(places, again.status, strict=True):
        status[place] = text
    return dataclasses.replace(
        before,
        status=tuple(status),
        logits=exchanged(before.logits, again.logits),
        descriptors={layer: exchanged(old, again.descriptors[layer]) for layer, old in before.descriptors.items()},
        means={layer: exchanged(old, again.means[layer]) for layer, old in before.means.items()},
    )
