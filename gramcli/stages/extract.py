"""``gramcli extract``: every clip through the network once, every layer's descriptor into the cache."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gramcli import files
from gramcli.audio import manifest as manifests
from gramcli.audio.workers import Decoders
from gramcli.cache import clips as table
from gramcli.cache import failures, finished, places
from gramcli.cache.clips import Clip, Clips
from gramcli.cache.view import CLEAN, View
from gramcli.errors import ArtefactError, NoInputError, shown
from gramcli.network import checkpoint
from gramcli.settings import Settings
from gramcli.stages import plan
from gramcli.stages.fill import fill
from gramcli.stages.prepare import Prepared, check_held_out, prepare, versions
from gramcli.stages.progress import Progress, Silent
from gramcli.stopwatch import NoStopwatch, Stopwatch
from gramcli.training import seen


@dataclass(frozen=True)
class Extracted:
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
    settings: Settings, *, folder: Path | None = None, progress: Progress | None = None, profile: bool = False
) -> Extracted:
    """Brings the cache up to date with the manifest.

    Only clips whose audio is not in the cache are decoded and forwarded; a run that was interrupted is finished by
    running it again.

    Args:
        settings: All settings; ``data.manifest`` and ``network.name`` must be given.
        folder: First on the import path of a factory; the working folder if None.
        progress: Told of tasks, steps and notes.
        profile: Whether to time the steps.

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
        done, decoding, trouble = _extracted(settings, folder or Path.cwd(), progress, stopwatch)
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
    settings: Settings, folder: Path, progress: Progress, stopwatch: Stopwatch
) -> tuple[Extracted, dict[str, float], str]:
    """Does the work of `extract`.

    Returns:
        What was done, the decoders' seconds by step, and why the first clip that failed did.
    """
    check_held_out(settings)
    cache = Path(settings.cache.dir)
    files.require_free(cache)  # before the network is built, which takes seconds
    with stopwatch.step("manifest"):
        source = plan.made_from(settings)
        before = finished.read(cache, source, _present(cache))
        listed, notes = ([], list(before.notes)) if before else _listed(settings)
    for note in notes:
        progress.note(note)
    known = {row.label for row in listed if row.label and row.split != table.UNKNOWN}
    labels = before.labels if before else tuple(manifests.natural_sorted(known))
    if settings.network.head == "map":
        _check_labels(listed, settings.network.classes)
        if not settings.network.classes:
            progress.note(
                f"network.classes is not given: its outputs are taken to be, in this order, {', '.join(labels)}"
            )
    with stopwatch.step("network"):
        ready = prepare(settings, labels, folder)
    ready.scorer.time_with(stopwatch)
    ready.scorer.note = progress.note
    if settings.network.weights is None:
        progress.note("no weights given: the network is as its constructor left it")
    progress.note(f"{ready.built.architecture}: {len(ready.identity['layers'])} layers, on {ready.device}")
    with files.lock(cache), Decoders(settings.run.decoders) as decoders:
        recorded = {"settings": settings.as_dict(), "folder": str(folder.absolute()), "versions": versions()}
        if (cache / "views").is_dir():  # a cache of something else is told before any file is read
            View.create(cache, ready.identity, recorded)
        if before is not None:
            return Extracted(before.clips, 0, before.clips, 0, len(_present(cache)), 0.0), {}, ""
        with stopwatch.step("manifest"):
            previous = table.read(cache)
        with stopwatch.step("wait for hashes"):
            clips = plan.find_clips(listed, previous, decoders, settings.segment.seconds, progress)
        notes += _check_unseen(clips, settings, progress)
        view = View.create(cache, ready.identity, recorded)
        rows = _plan(clips, previous, cache, view, settings)
        reasons = failures.read(cache, view, rows)
        failures.write(cache, rows, reasons)
        there = view.present()
        forwarded = _fill(view, cache, rows, reasons, ready, decoders, settings, progress)
        used = [clip for clip in rows if clip.split]
        troubles = [clip.error or reasons[clip.key] for clip in used if clip.error or clip.key in reasons]
        if source and not troubles:
            finished.write(cache, source, rows, labels, notes, view.present())
    reused = sum(clip.shard in there for clip in used)
    done = Extracted(len(used), forwarded, reused, len(troubles), len(view.present()), 0.0)
    return done, dict(decoders.seconds), troubles[0] if troubles else ""


def _present(cache: Path) -> set[int]:
    """Returns the shards that are there, in a cache that may not be there yet."""
    return View(cache / "views" / CLEAN, {}, {}).present()


def _listed(settings: Settings) -> tuple[list[manifests.Row], list[str]]:
    """Returns the rows of the manifest that are in a split, and notes on it."""
    manifest = manifests.read(settings.data)
    listed = [row for row in manifest.rows if row.split]
    if not listed:
        raise NoInputError(f"{shown(settings.data.manifest)}: no row is in a split; give labels or a split column")
    return listed, list(manifest.notes)


def _check_labels(rows: Sequence[manifests.Row], classes: Sequence[str]) -> None:
    known = set(classes)
    for row in rows:
        if classes and row.label and row.split != table.UNKNOWN and row.label not in known:
            raise ArtefactError(
                f"{shown(row.origin)}: label {shown(row.label)} is none of the network's {len(classes)} outputs "
                f"({shown(', '.join(classes[:5]))}, ...); mend the manifest or network.classes, "
                "name it in data.hold_out, or set network.head to none"
            )


def _check_unseen(clips: Sequence[Clip], settings: Settings, progress: Progress) -> list[str]:
    """Refuses validation and test clips that the network was trained on, as far as its checkpoint says.

    Returns:
        What it said.
    """
    said = []
    if settings.network.weights is not None:
        path = Path(settings.network.weights)
        metadata = checkpoint.metadata(path)
        seen.check_unseen(clips, metadata, path)
        if count := seen.chose_by(clips, metadata):
            said.append(
                f"{count} test clips were validation clips when {shown(path.name)} was trained, and chose its epoch: "
                "what is measured on them flatters"
            )
    for note in said:
        progress.note(note)
    return said


def _plan(clips: Sequence[Clip], previous: Clips | None, cache: Path, view: View, settings: Settings) -> list[Clip]:
    """Gives each clip its place and writes the table; shards follow."""
    done = view.present()
    taken = places.taken(previous, done)
    if previous is None:
        for number in sorted(done):  # the table was deleted: the shards know what they hold
            keys = view.read(number, layers=()).keys
            taken.update({key: places.Place(number, row) for row, key in enumerate(keys)})
    rows_a_shard = settings.cache.clips_per_shard or places.rows_a_shard(view.numbers_a_clip)
    rows = places.allot(clips, taken, done, rows_a_shard) + places.forgotten(clips, previous, taken)
    table.write(cache, rows, settings.segment.seconds)
    return rows


def _fill(
    view: View,
    cache: Path,
    rows: Sequence[Clip],
    reasons: dict[str, str],
    ready: Prepared,
    decoders: Decoders,
    settings: Settings,
    progress: Progress,
) -> int:
    """Computes the missing shards, adds failures to `reasons`, returns how many clips were read."""
    present = view.present()
    # two files with the same audio share a row; either of them will do
    missing = (clip for clip in rows if clip.shard not in present)
    todo = {
        number: list({clip.row: clip for clip in group}.values()) for number, group in table.by_shard(missing).items()
    }

    def note_failures(bad: dict[str, str]) -> None:
        reasons.update(bad)
        failures.write(cache, rows, reasons)

    return fill(view, todo, ready, decoders, settings, progress, failed=note_failures)


def _write_run(cache: Path, stage: str, settings: Settings, done: Extracted) -> None:
    """Leaves a record for people: what was asked, with what, and how long it took."""
    folder = cache / "runs"
    files.make_folder(folder)
    files.sweep(folder)
    record = {"stage": stage, "settings": settings.as_dict(), "versions": versions(), "done": vars(done)}
    name = f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{stage}.json"
    files.write(folder / name, json.dumps(record, indent=1).encode() + b"\n")
