"""``gramcli extract``: every clip through the network once, every layer's descriptor into the cache."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gramcli.audio.decoder_pool import Decoders
from gramcli.cache import clip_table, completion, failures, placement
from gramcli.cache.clip_table import ClipTable
from gramcli.cache.view import View
from gramcli.dataset import provenance
from gramcli.dataset.clip import Clip
from gramcli.errors import NoInputError
from gramcli.extraction import windows
from gramcli.extraction.compute import fill_shards
from gramcli.extraction.inputs import present_shards, read_inputs
from gramcli.extraction.retry import retry_failed_clips
from gramcli.network import checkpoint
from gramcli.network.prepare import PreparedNetwork
from gramcli.progress import Progress, Silent
from gramcli.settings.schema import Settings
from gramcli.system import durable_files
from gramcli.system.profiler import NoStopwatch, Stopwatch
from gramcli.system.versions import versions
from gramcli.text import shown


@dataclass(frozen=True)
class ExtractResult:
    """What one run did."""

    clips: int
    """Clips of the manifest, windows counted one by one."""
    forwarded: int
    """Audio that was decoded in this run."""
    reused: int
    """Clips that had a row before."""
    failed: int
    """Of these, without a usable row."""
    shards: int
    """Shards of the view."""
    seconds: float
    """Wall time."""
    profile: Mapping[str, Mapping[str, float]] | None = None
    """Seconds by step if they were asked for: of this process, which add up to `seconds`, and of the decoders, which
    work meanwhile."""


def extract(
    settings: Settings,
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
    profile: bool = False,
    retry_failed: bool = False,
) -> ExtractResult:
    """Brings the cache up to date with the manifest.

    Only clips whose audio is not in the cache are decoded and forwarded; a run that was interrupted is finished by
    running it again.

    Args:
        settings: All settings; ``data.manifest`` and ``network.name`` must be given.
        folder: First on the import path of a factory; the working folder if None.
        progress: Told of tasks, steps and notes.
        profile: Whether to time the steps.
        retry_failed: Whether clips that failed before are tried once more.

    Raises:
        UsageError: Settings or manifest contradict themselves.
        NoInputError: No clip is usable.
        ArtefactError: The cache was made otherwise, weights do not fit, or a label is none of the outputs.
        DamagedError: The cache is damaged.
        ResourceError: Device, space or permission is missing.
        LockedError: Another process writes to the cache.
    """
    progress, began = progress or Silent(), time.monotonic()
    stopwatch = Stopwatch() if profile else NoStopwatch()
    with stopwatch.step("other"):
        done, decoding, trouble = _extracted(settings, folder or Path.cwd(), progress, stopwatch, retry_failed)
    done = replace(done, seconds=time.monotonic() - began)
    if profile:
        done = replace(done, profile={"here": stopwatch.seconds, "decoders": decoding})
    _write_run(Path(settings.cache.dir), "extract", settings, done)
    if done.failed == done.clips:
        raise NoInputError(
            f"{shown(settings.data.manifest)}: none of its {done.failed} clips is usable (the first: {trouble})"
        )
    return done


def _extracted(
    settings: Settings, folder: Path, progress: Progress, stopwatch: Stopwatch, retry_failed: bool
) -> tuple[ExtractResult, dict[str, float], str]:
    """Does the work of `extract`.

    Returns:
        What was done, the decoders' seconds by step, and why the first clip that failed did.
    """
    cache = Path(settings.cache.dir)
    start = read_inputs(settings, folder, progress, stopwatch)
    before, ready, notes = start.before, start.ready, list(start.notes)
    with durable_files.lock(cache), Decoders.of(settings) as decoders:
        recorded = {"settings": settings.as_dict(), "folder": str(folder.absolute()), "versions": versions()}
        if (cache / "views").is_dir():  # a cache of something else is told before any file is read
            View.create(cache, ready.identity, recorded)
        if before is not None:
            return ExtractResult(before.clips, 0, before.clips, 0, len(present_shards(cache)), 0.0), {}, ""
        with stopwatch.step("manifest"):
            previous = clip_table.read(cache)
        with stopwatch.step("wait for hashes"):
            clips = windows.find_clips(start.listed, previous, decoders, settings.segment.seconds, progress)
        notes += _check_unseen(clips, settings, progress)
        view = View.create(cache, ready.identity, recorded)
        rows = _plan(clips, previous, cache, view, settings)
        reasons = failures.read(cache, view, rows)
        if retry_failed:
            reasons = retry_failed_clips(cache, view, rows, reasons, ready, decoders, settings, progress)
        failures.write(cache, rows, reasons)
        there = view.present()
        forwarded = _fill(view, cache, rows, reasons, ready, decoders, settings, progress)
        used = [clip for clip in rows if clip.split]
        troubles = [clip.error or reasons[clip.key] for clip in used if clip.error or clip.key in reasons]
        if start.source and not troubles:
            finished = completion.Completion(len(used), start.labels, tuple(notes))
            completion.write(cache, start.source, finished, rows, view.present())
    reused = sum(clip.shard in there for clip in used)
    done = ExtractResult(len(used), forwarded, reused, len(troubles), len(view.present()), 0.0)
    return done, dict(decoders.seconds), troubles[0] if troubles else ""


def _check_unseen(clips: Sequence[Clip], settings: Settings, progress: Progress) -> list[str]:
    """Refuses validation and test clips that the network was trained on, as far as its checkpoint says.

    Returns:
        What it said.
    """
    said = []
    if settings.network.weights is not None:
        path = Path(settings.network.weights)
        metadata = checkpoint.metadata(path)
        provenance.check_unseen(clips, metadata, path)
        if count := provenance.chose_by(clips, metadata):
            said.append(
                f"{count} test clips were validation clips when {shown(path.name)} was trained, and chose its epoch: "
                "what is measured on them flatters"
            )
    for note in said:
        progress.note(note)
    return said


def _plan(clips: Sequence[Clip], previous: ClipTable | None, cache: Path, view: View, settings: Settings) -> list[Clip]:
    """Gives each clip its place and writes the table; shards follow."""
    done = view.present()
    taken = placement.known_places(previous, done)
    if previous is None:
        for number in sorted(done):  # the table was deleted: the shards know what they hold
            keys = view.read(number, layers=()).keys
            taken.update({key: placement.RowPlace(number, row) for row, key in enumerate(keys)})
    rows_a_shard = settings.cache.clips_per_shard or placement.rows_per_shard(view.numbers_a_clip)
    rows = placement.assign_places(clips, taken, done, rows_a_shard) + placement.unlisted_clips(clips, previous, taken)
    clip_table.write(cache, rows, settings.segment.seconds)
    return rows


def _fill(
    view: View,
    cache: Path,
    rows: Sequence[Clip],
    reasons: dict[str, str],
    ready: PreparedNetwork,
    decoders: Decoders,
    settings: Settings,
    progress: Progress,
) -> int:
    """Computes the missing shards, adds failures to `reasons`, returns how many clips were read."""
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

    return fill_shards(view, todo, ready, decoders, settings, progress, failed=note_failures)


def _write_run(cache: Path, stage: str, settings: Settings, done: ExtractResult) -> None:
    """Leaves a record for people: what was asked, with what, and how long it took."""
    folder = cache / "runs"
    durable_files.make_folder(folder)
    durable_files.sweep(folder)
    record = {"stage": stage, "settings": settings.as_dict(), "versions": versions(), "done": vars(done)}
    name = f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{stage}.json"
    durable_files.write(folder / name, json.dumps(record, indent=1).encode() + b"\n")
