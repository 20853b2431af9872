"""``gramcli extract --dry-run``: forecasts what an extract would compute, and the disk, memory and time it needs."""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gramcli.audio.decoder_pool import Decoders
from gramcli.cache import clip_table, inventory, placement
from gramcli.cache.view import CLEAN, View
from gramcli.dataset.clip import Clip
from gramcli.extraction import windows
from gramcli.extraction.compute import Extractor, compute_shards
from gramcli.extraction.inputs import present_shards, read_inputs
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings

BATCHES = 5
"""Batches that are computed; the first is not timed, as it includes one-time start-up work."""
SHARDS = 4
"""Copies of a shard that are in memory at once: batches, rows, HDF5 image, file."""


@dataclass(frozen=True)
class Forecast:
    """What an extract would do."""

    clips: int
    """Clips of the manifest, windows counted one by one."""
    there: int
    """Clips that have a row already."""
    unreadable: int
    """Clips whose file cannot be read."""
    todo: int
    """Clips to compute, at most: only reading a file shows that it was moved, or has the same audio as another."""
    bytes: int
    """Disk space that they need."""
    free: int
    """Free disk space."""
    tried: int
    """Clips that were computed to measure `seconds` and `memory`."""
    seconds: float
    """Time that the extract would take."""
    memory: int
    """Memory that the process would need in bytes, without the decoders."""

    @property
    def fits(self) -> bool:
        """Whether the disk has room."""
        return self.bytes <= self.free


def forecast(settings: Settings, context: RunContext | None = None) -> Forecast:
    """Reads the manifest and the headers of audio files, computes a few clips, and writes nothing.

    Args:
        settings: Complete settings, as for `extract`.
        context: Progress, and the folder of a network's factory; its settings are taken to be part of `settings`.

    Raises:
        UsageError: Settings or manifest contradict themselves.
        NoInputError: No clip is in a split.
        ArtefactError: The cache was made with other settings, the weights do not fit, or a label is none of the
            network's classes.
        DamagedError: The cache is damaged.
        ResourceError: The device is missing.
        LockedError: Another process writes to the cache.
    """
    context = context or RunContext()
    cache = Path(settings.cache.dir)
    start = read_inputs(settings, context)
    view = View(cache / "views" / CLEAN, start.ready.identity, {})
    if inventory.holds(cache, view.folder / "view.json"):
        View.open(cache).require(start.ready.identity)
    free = shutil.disk_usage(_nearest(cache)).free
    if start.before is not None:
        return Forecast(start.before.clips, start.before.clips, 0, 0, 0, free, 0, 0.0, _held())
    previous = clip_table.read(cache)
    with Decoders.of(settings) as decoders:
        clips = windows.estimate_clips(start.listed, previous, decoders, settings.segment.seconds, context.progress)
        finished = placement.places_in_finished_shards(previous, present_shards(cache))
        new = list({clip.key: clip for clip in clips if clip.key and clip.key not in finished}.values())
        tried, seconds = _try(new, Extractor(start.ready, decoders, settings, context.progress))
    rows = placement.rows_per_shard(view.numbers_per_row, settings.cache.clips_per_shard)
    return Forecast(
        clips=len(clips),
        there=sum(clip.key in finished for clip in clips),
        unreadable=sum(bool(clip.error) for clip in clips),
        todo=len(new),
        bytes=len(new) * view.bytes_per_clip,
        free=free,
        tried=tried,
        seconds=seconds * len(new),
        memory=_held() + SHARDS * min(rows, len(new)) * view.bytes_per_clip,
    )


def _try(clips: Sequence[Clip], extractor: Extractor) -> tuple[int, float]:
    """Computes a few clips, and returns how many and the seconds that one takes."""
    size = extractor.settings.run.batch
    batches = {n: clips[n * size : (n + 1) * size] for n in range(min(BATCHES, -(-len(clips) // size)))}
    extractor.progress.start("computing a few clips to measure the time", sum(map(len, batches.values())))
    began, done = [time.monotonic()], [0]
    for number, _ in compute_shards(extractor, batches):
        began.append(time.monotonic())
        done.append(done[-1] + len(batches[number]))
    first = 1 if len(batches) > 1 else 0
    timed = done[-1] - done[first]
    return done[-1], (began[-1] - began[first]) / timed if timed else 0.0


def _held() -> int:
    """Returns the peak memory of this process, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _nearest(folder: Path) -> Path:
    """Returns the folder, or its nearest parent that exists."""
    folder = folder.absolute()
    return folder if folder.is_dir() else _nearest(folder.parent)
