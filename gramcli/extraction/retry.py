"""Retries failed clips. A shard is never changed: it is written again as a new generation that has the new rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from gramcli.cache import clip_table, failures, shard
from gramcli.cache.shard import Shard
from gramcli.cache.view import View
from gramcli.dataset.clip import Clip
from gramcli.extraction.compute import Extractor, compute_shards


def retry_failed_clips(
    extractor: Extractor, cache: Path, view: View, rows: Iterable[Clip], reasons: Mapping[str, str]
) -> dict[str, str]:
    """Computes failed rows again; a shard with a row that succeeds now is written again, its other rows unchanged.

    Args:
        extractor: Computes the rows; its progress is told of every clip, and of the outcome.
        cache: Folder of the cache. Its list of failures is removed, as it would no longer fit the shards.
        view: Keeps the shards.
        rows: All clips.
        reasons: Why clips failed, by key.

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
    failures.forget(cache)  # else a killed run would leave failures listed that are none any more
    progress = extractor.progress
    progress.start("retrying failed clips", total)
    left = dict(reasons)
    for number, recomputed in compute_shards(extractor, todo, hash_again=True):  # some may have failed as they changed
        left.update(zip(recomputed.keys, recomputed.status, strict=True))
        if any(recomputed.usable()):
            replaced = [clip.row for clip in todo[number] if clip.row is not None]
            before = view.read(number, with_means=view.with_means)
            view.write(number, _with_rows(before, replaced, recomputed), view.generations(number)[-1] + 1)
    left = {key: reason for key, reason in left.items() if reason != shard.OK}
    usable = len(reasons) - len(left)
    progress.note(
        f"{total} failed clips retried: {usable} are usable now"
        + ("; run gramcli calibrate and select-layers again to use them" if usable else "")
    )
    return left


def _with_rows(before: Shard, replaced: list[int], recomputed: Shard) -> Shard:
    """Returns a shard with some of its rows replaced."""

    def exchanged(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        rows = old.copy()
        rows[replaced] = new
        return rows

    status = list(before.status)
    for row, text in zip(replaced, recomputed.status, strict=True):
        status[row] = text
    return dataclasses.replace(
        before,
        status=tuple(status),
        logits=exchanged(before.logits, recomputed.logits),
        descriptors={layer: exchanged(old, recomputed.descriptors[layer]) for layer, old in before.descriptors.items()},
        means={layer: exchanged(old, recomputed.means[layer]) for layer, old in before.means.items()},
    )
