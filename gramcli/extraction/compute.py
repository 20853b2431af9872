"""Clips through decoding, condition, network and into shards."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gramcli.audio import condition as conditions
from gramcli.audio.condition import Condition
from gramcli.audio.decoder_pool import Decoded, Decoders
from gramcli.audio.reader import stack
from gramcli.audio.requests import requests
from gramcli.cache import shard
from gramcli.cache.view import View
from gramcli.dataset.clip import Clip
from gramcli.errors import ResourceError
from gramcli.network.prepare import PreparedNetwork
from gramcli.progress import Progress
from gramcli.settings.schema import Settings
from gramcli.text import shown


def fill_shards(
    view: View,
    todo: Mapping[int, Sequence[Clip]],
    ready: PreparedNetwork,
    decoders: Decoders,
    settings: Settings,
    progress: Progress,
    *,
    condition: Condition | None = None,
    failed: Callable[[dict[str, str]], None] = lambda reasons: None,
) -> int:
    """Computes and commits shards in order; batches never cross them.

    Args:
        view: Where they go.
        todo: Clips of each shard, row by row.
        ready: The network.
        decoders: What reads the audio.
        settings: Batch, window and front end.
        progress: Told of every clip.
        condition: What every clip goes through first.
        failed: Told why clips of a shard are not usable, by key, before the shard is committed.

    Returns:
        Number of clips that were read.

    Raises:
        ResourceError: The disk has no room for all of them, or a shard cannot be written.
    """
    total, stopwatch = sum(map(len, todo.values())), ready.scorer.stopwatch
    progress.start("extracting" if condition is None else f"extracting {condition.text}", total)
    _require_room(view, total)
    for number, whole in compute_shards(todo, ready, decoders, settings, progress, condition):
        bad = {key: status for key, status in zip(whole.keys, whole.status, strict=True) if status != shard.OK}
        if bad:
            failed(bad)
        with stopwatch.step("commit"):
            same = view.write(number, whole)
        if not same:
            progress.note(f"{shown(view.path(number))}: another run committed other bytes first; these are kept")
    return total


def _require_room(view: View, clips: int) -> None:
    needed, free = clips * view.bytes_a_clip, shutil.disk_usage(view.folder).free
    if needed > free:
        raise ResourceError(
            f"{shown(view.folder)}: {clips} clips to compute take about {needed / 2**20:.0f} MiB, and "
            f"{free / 2**20:.0f} MiB are free; free some space, or use another --cache"
        )


def compute_shards(
    todo: Mapping[int, Sequence[Clip]],
    ready: PreparedNetwork,
    decoders: Decoders,
    settings: Settings,
    progress: Progress,
    condition: Condition | None = None,
) -> Iterator[tuple[int, shard.Shard]]:
    """Yields the rows of each shard, in order; see `fill_shards`."""
    pending = itertools.chain.from_iterable(todo.values())
    decoded = decoders.decode(requests(pending, settings))
    for number, group in todo.items():
        batches = []
        for first in range(0, len(group), settings.run.batch):
            part = group[first : first + settings.run.batch]
            with ready.scorer.stopwatch.step("wait for audio"):
                heard = list(itertools.islice(decoded, len(part)))
            batches.append(_score(part, heard, ready, settings, condition))
            progress.advance(len(part), sum(status != shard.OK for status in batches[-1].status))
        yield number, _join(batches)


def _score(
    clips: Sequence[Clip],
    decoded: Sequence[Decoded],
    ready: PreparedNetwork,
    settings: Settings,
    condition: Condition | None,
) -> shard.Shard:
    """Scores one batch; what could not be decoded becomes a failed row."""
    good = [n for n, one in enumerate(decoded) if one.samples is not None]
    status = [one.error or shard.OK for one in decoded]
    outputs, layers = ready.built.outputs, dict(ready.identity["layers"])
    logits = np.full((len(clips), outputs), np.nan, np.float32)

    def empty(wanted: bool = True) -> dict[str, npt.NDArray[np.float32]]:
        return {layer: np.full((len(clips), layers[layer]), np.nan, np.float32) for layer in layers if wanted}

    rows, means = empty(), empty(ready.scorer.with_means)
    if good:
        windows = [samples for n in good if (samples := decoded[n].samples) is not None]
        if condition is not None:
            rate = settings.frontend.sample_rate
            windows = [
                conditions.apply(condition, samples, rate, clips[n].key)
                for n, samples in zip(good, windows, strict=True)
            ]
        scores = ready.scorer.score(stack(windows, ready.samples, settings.segment.pad))
        for place, n in enumerate(good):
            if scores.errors[place]:
                status[n] = scores.errors[place]
                continue
            logits[n] = scores.logits[place]
            for stored, found in ((rows, scores.descriptors), (means, scores.means)):
                for layer, values in found.items():
                    stored[layer][n] = values[place]
    return shard.Shard(tuple(clip.key for clip in clips), tuple(status), logits, rows, means)


def _join(parts: Sequence[shard.Shard]) -> shard.Shard:
    keys = tuple(itertools.chain.from_iterable(part.keys for part in parts))
    status = tuple(itertools.chain.from_iterable(part.status for part in parts))
    rows, means = (
        {layer: np.concatenate([getattr(part, name)[layer] for part in parts]) for layer in getattr(parts[0], name)}
        for name in ("descriptors", "means")
    )
    return shard.Shard(keys, status, np.concatenate([part.logits for part in parts]), rows, means)
