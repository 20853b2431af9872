"""Computes the descriptors of clips, shard by shard: decode, apply a condition, run the network, commit."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gramcli.audio import condition as conditions
from gramcli.audio.background import Backgrounds
from gramcli.audio.condition import Condition
from gramcli.audio.decoder_pool import Decoded, Decoders
from gramcli.audio.reader import Samples, stack
from gramcli.audio.requests import requests
from gramcli.cache import shard
from gramcli.cache.view import View
from gramcli.dataset.clip import Clip
from gramcli.errors import ResourceError
from gramcli.network.prepare import PreparedNetwork
from gramcli.progress import Progress
from gramcli.settings.schema import Settings
from gramcli.text import shown


@dataclass(frozen=True)
class Extractor:
    """All that computes descriptors from clips."""

    network: PreparedNetwork
    decoders: Decoders
    settings: Settings
    """Batch, window and front end are used."""
    progress: Progress


def fill_shards(
    extractor: Extractor,
    view: View,
    todo: Mapping[int, Sequence[Clip]],
    *,
    condition: Condition | None = None,
    on_failures: Callable[[dict[str, str]], None] = lambda reasons: None,
) -> int:
    """Computes and commits shards in order; no batch spans two of them.

    Args:
        extractor: Computes the rows.
        view: Keeps the shards.
        todo: Clips of each shard, row by row.
        condition: What is done to the audio of every clip first.
        on_failures: Called before a shard is committed, with the reasons why clips of it are not usable, by key.

    Returns:
        Number of clips that were read.

    Raises:
        ResourceError: The disk has no room for all of them, or a shard cannot be written.
    """
    total, stopwatch, progress = (sum(map(len, todo.values())), extractor.network.scorer.stopwatch, extractor.progress)
    progress.start("extracting" if condition is None else f"extracting {condition.text}", total)
    _require_room(view, total)
    for number, rows in compute_shards(extractor, todo, condition):
        bad = {key: status for key, status in zip(rows.keys, rows.status, strict=True) if status != shard.OK}
        if bad:
            on_failures(bad)
        with stopwatch.step("commit"):
            same = view.write(number, rows)
        if not same:
            progress.note(
                f"{shown(view.path(number))}: another run has just written this shard, with other bytes; its shard is "
                "kept"
            )
    return total


def _require_room(view: View, clips: int) -> None:
    needed, free = clips * view.bytes_per_clip, shutil.disk_usage(view.folder).free
    if needed > free:
        raise ResourceError(
            f"{shown(view.folder)}: {clips} clips to compute need about {needed / 2**20:.0f} MiB, and "
            f"{free / 2**20:.0f} MiB are free; free some space, or choose another --cache"
        )


def compute_shards(
    extractor: Extractor,
    todo: Mapping[int, Sequence[Clip]],
    condition: Condition | None = None,
    *,
    hash_again: bool = False,
) -> Iterator[tuple[int, shard.Shard]]:
    """Yields the rows of each shard, in order; see `fill_shards`, and `requests` for `hash_again`."""
    settings, stopwatch = extractor.settings, extractor.network.scorer.stopwatch
    alter = None if condition is None else _altering(extractor, condition)
    pending = itertools.chain.from_iterable(todo.values())
    decoded = extractor.decoders.decode(requests(pending, settings, hash_again=hash_again))
    for number, group in todo.items():
        batches = []
        for first in range(0, len(group), settings.run.batch):
            part = group[first : first + settings.run.batch]
            with stopwatch.step("wait for audio"):
                audio = list(itertools.islice(decoded, len(part)))
            batches.append(_score(extractor, part, audio, alter))
            extractor.progress.advance(len(part), sum(status != shard.OK for status in batches[-1].status))
        yield number, _join(batches)


Alter = Callable[[Samples, str], Samples]
"""Applies a condition to the samples of the clip with a key."""


def _altering(extractor: Extractor, condition: Condition) -> Alter:
    rate = extractor.settings.frontend.sample_rate
    backgrounds = Backgrounds(condition, extractor.decoders, rate) if condition.recordings else None
    return lambda samples, key: conditions.apply(condition, samples, rate, key, backgrounds)


def _score(extractor: Extractor, clips: Sequence[Clip], decoded: Sequence[Decoded], alter: Alter | None) -> shard.Shard:
    """Scores one batch; what could not be decoded becomes a failed row."""
    ready, pad = extractor.network, extractor.settings.segment.pad
    good = [n for n, one in enumerate(decoded) if one.samples is not None]
    status = [one.error or shard.OK for one in decoded]
    outputs, layers = ready.built.outputs, dict(ready.identity["layers"])
    logits = np.full((len(clips), outputs), np.nan, np.float32)

    def empty(wanted: bool = True) -> dict[str, npt.NDArray[np.float32]]:
        return {layer: np.full((len(clips), layers[layer]), np.nan, np.float32) for layer in layers if wanted}

    rows, means = empty(), empty(ready.scorer.with_means)
    if good:
        windows = [samples for n in good if (samples := decoded[n].samples) is not None]
        if alter is not None:
            windows = [alter(samples, clips[n].key) for n, samples in zip(good, windows, strict=True)]
        scores = ready.scorer.score(stack(windows, ready.samples, pad))
        for index, n in enumerate(good):
            if scores.errors[index]:
                status[n] = scores.errors[index]
                continue
            logits[n] = scores.logits[index]
            for stored, found in ((rows, scores.descriptors), (means, scores.means)):
                for layer, values in found.items():
                    stored[layer][n] = values[index]
    return shard.Shard(tuple(clip.key for clip in clips), tuple(status), logits, rows, means)


def _join(parts: Sequence[shard.Shard]) -> shard.Shard:
    keys = tuple(itertools.chain.from_iterable(part.keys for part in parts))
    status = tuple(itertools.chain.from_iterable(part.status for part in parts))
    rows, means = (
        {layer: np.concatenate([getattr(part, name)[layer] for part in parts]) for layer in getattr(parts[0], name)}
        for name in ("descriptors", "means")
    )
    return shard.Shard(keys, status, np.concatenate([part.logits for part in parts]), rows, means)
