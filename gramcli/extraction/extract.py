"""``gramcli extract``: runs the network once on every clip and keeps each layer's descriptor in the cache."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gramcli.audio.decoder_pool import Decoders
from gramcli.cache import clip_table, completion, failures, inventory, placement
from gramcli.cache.clip_table import ClipTable
from gramcli.cache.view import View
from gramcli.dataset import provenance
from gramcli.dataset.clip import Clip
from gramcli.errors import NoInputError
from gramcli.extraction import windows
from gramcli.extraction.compute import Extractor, fill_shards
from gramcli.extraction.inputs import present_shards, read_inputs
from gramcli.extraction.retry import retry_failed_clips
from gramcli.network import checkpoint
from gramcli.progress import Progress
from gramcli.settings.cache_folder import cache_folder
from gramcli.settings.configure import complete
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.system import durable_files, folder_lock
from gramcli.system.profiler import NoStopwatch, Stopwatch
from gramcli.system.versions import versions
from gramcli.text import shown


@dataclass(frozen=True)
class ExtractResult:
    """What one extract did."""

    clips: int
    """Clips of the manifest, windows counted one by one."""
    forwarded: int
    """Windows of audio that were decoded in this run; several clips may share one."""
    reused: int
    """Clips that had a row before."""
    failed: int
    """Clips without a usable row."""
    shards: int
    """Shards of the view."""
    seconds: float
    """Wall time."""
    profile: Mapping[str, Mapping[str, float]] | None = None
    """Seconds by step if they were asked for: ``here`` of this process, which add up to `seconds`, and ``decoders``,
    which work at the same time."""


def extract(
    settings: Settings | Mapping[str, Mapping[str, Any]],
    context: RunContext | None = None,
    *,
    profile: bool = False,
    retry_failed: bool = False,
) -> ExtractResult:
    """Brings the cache up to date with the manifest.

    Only clips whose audio is not in the cache are decoded and run through the network. To finish an interrupted run,
    run it again.

    Args:
        settings: Complete settings, or values by section and key such as ``{"data": {"manifest": "clips.csv"},
            "network": {"weights": "net.safetensors"}}``, which are completed as the command line does: by the settings
            file, the environment and the metadata of the checkpoint. Manifest and network must be given.
        context: Progress, the folder of a network's factory and, for values to complete, more settings and the file.
        profile: Whether to time the steps.
        retry_failed: Whether to retry clips that failed in an earlier run.

    Raises:
        UsageError: Settings or manifest contradict themselves.
        NoInputError: No clip is usable.
        ArtefactError: The cache was made with other settings, the weights do not fit, or a label is none of the
            network's classes.
        DamagedError: The cache is damaged.
        ResourceError: Device, space or permission is missing.
        LockedError: Another process writes to the cache.
        UnsafeError: A file names code or arguments that the user has not named or trusted, or the cache is a link that
            the caller has not named.
    """
    context, began = context or RunContext(), time.monotonic()
    cache_folder(context, settings)
    settings, context = complete(settings, context, checkpoint.settings_of_file)
    stopwatch = Stopwatch() if profile else NoStopwatch()
    with stopwatch.step("other"):
        done, decoding, trouble = _extract(settings, context, stopwatch, retry_failed)
    done = replace(done, seconds=time.monotonic() - began)
    if profile:
        done = replace(done, profile={"here": stopwatch.seconds, "decoders": decoding})
    _write_run(Path(settings.cache.dir), "extract", settings, done)
    if done.failed == done.clips:
        raise NoInputError(
            f"{shown(settings.data.manifest)}: none of its {done.failed} clips can be used (the first: {trouble})"
        )
    return done


def _extract(
    settings: Settings, context: RunContext, stopwatch: Stopwatch, retry_failed: bool
) -> tuple[ExtractResult, dict[str, float], str]:
    """Does the work of `extract`.

    Returns:
        What was done, the decoders' seconds by step, and why the first failed clip failed.
    """
    cache, progress = Path(settings.cache.dir), context.progress
    start = read_inputs(settings, context, stopwatch)
    before, ready, notes = start.before, start.ready, list(start.notes)
    # refused before any audio is read
    placement.rows_per_shard(View(cache, ready.identity, {}).numbers_per_row, settings.cache.clips_per_shard)
    with folder_lock.lock(cache), Decoders.of(settings) as decoders:
        recorded = {"settings": settings.as_dict(), "folder": str(context.folder), "versions": versions()}
        if inventory.holds(cache, cache / "views"):  # a cache with another identity is refused before any file is read
            View.create(cache, ready.identity, recorded)
        if before is not None:
            return ExtractResult(before.clips, 0, before.clips, 0, len(present_shards(cache)), 0.0), {}, ""
        with stopwatch.step("manifest"):
            previous = clip_table.read(cache)
        with stopwatch.step("wait for hashes"):
            clips = windows.find_clips(start.listed, previous, decoders, settings.segment.seconds, progress)
        notes += _check_unseen(clips, settings, ready.built.metadata, progress)
        view = View.create(cache, ready.identity, recorded)
        rows = _plan(clips, previous, cache, view, settings)
        reasons = failures.read(cache, view, rows)
        extractor = Extractor(ready, decoders, settings, progress)
        if retry_failed:
            reasons = retry_failed_clips(extractor, cache, view, rows, reasons)
        failures.write(cache, rows, reasons)
        present = view.present()
        forwarded = _fill(extractor, cache, view, rows, reasons)
        used = [clip for clip in rows if clip.split]
        troubles = [clip.error or reasons[clip.key] for clip in used if clip.error or clip.key in reasons]
        if start.source and not troubles:
            finished = completion.Completion(len(used), start.labels, tuple(notes))
            completion.write(cache, start.source, finished, rows, view.present())
    reused = sum(clip.shard in present for clip in used)
    done = ExtractResult(len(used), forwarded, reused, len(troubles), len(view.present()), 0.0)
    return done, dict(decoders.seconds), troubles[0] if troubles else ""


def _check_unseen(
    clips: Sequence[Clip], settings: Settings, metadata: Mapping[str, Any], progress: Progress
) -> list[str]:
    """Refuses validation and test clips that the network was trained on, as far as its checkpoint says.

    Returns:
        The notes that were given.
    """
    notes = []
    if settings.network.weights is not None:
        path = Path(settings.network.weights)
        provenance.check_unseen(clips, metadata, path)
        if count := provenance.chose_by(clips, metadata, path):
            notes.append(
                f"{count} test clips were validation clips when {shown(path.name)} was trained, and its epoch was "
                "chosen on them: figures measured on them are too good"
            )
    for note in notes:
        progress.note(note)
    return notes


def _plan(clips: Sequence[Clip], previous: ClipTable | None, cache: Path, view: View, settings: Settings) -> list[Clip]:
    """Assigns each clip a shard and a row, and writes the table of clips; the shards are written later."""
    done = view.present()
    taken = placement.places_in_finished_shards(previous, done)
    if previous is None:
        for number in sorted(done):  # the table was deleted, but shards hold their keys
            keys = view.read(number, layers=()).keys
            taken.update({key: placement.RowPlace(number, row) for row, key in enumerate(keys)})
    rows_per_shard = placement.rows_per_shard(view.numbers_per_row, settings.cache.clips_per_shard)
    rows = placement.assign_places(clips, taken, done, rows_per_shard) + placement.unlisted_clips(
        clips, previous, taken
    )
    clip_table.write(cache, rows, settings.segment.seconds)
    return rows


def _fill(extractor: Extractor, cache: Path, view: View, rows: Sequence[Clip], reasons: dict[str, str]) -> int:
    """Computes the missing shards, adds failures to `reasons`, and returns how many clips were decoded."""
    done = view.present()
    # two files with the same audio share a row; either of them will do
    missing = (clip for clip in rows if clip.shard not in done)
    todo = {
        number: list({clip.row: clip for clip in group}.values())
        for number, group in clip_table.by_shard(missing).items()
    }

    def note_failures(bad: dict[str, str]) -> None:
        reasons.update(bad)
        failures.write(cache, rows, reasons)

    return fill_shards(extractor, view, todo, on_failures=note_failures)


def _write_run(cache: Path, stage: str, settings: Settings, done: ExtractResult) -> None:
    """Writes a record of the run for people: its settings, versions, outcome and time."""
    folder = cache / "runs"
    durable_files.make_folder(folder, below=cache)
    durable_files.sweep(folder, below=cache)
    record = {"stage": stage, "settings": settings.as_dict(), "versions": versions(), "done": vars(done)}
    name = f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{stage}.json"
    durable_files.write(folder / name, json.dumps(record, indent=1).encode() + b"\n", below=cache)
