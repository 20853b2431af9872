"""``gramcli cache verify --repair``: damaged files move into quarantine, and what they held is computed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gramcli.audio.decoder_pool import Decoders
from gramcli.cache import clip_table, decision, failures, statistics
from gramcli.cache.view import CLEAN, View, shard_name
from gramcli.dataset.clip import Clip
from gramcli.extraction.compute import compute_shards
from gramcli.extraction.reopen import reopen_network
from gramcli.extraction.retry import retry_failed_clips
from gramcli.maintenance.audio_files import AudioCheck, compare_audio
from gramcli.maintenance.verify import verify
from gramcli.progress import Progress, Silent
from gramcli.system import durable_files
from gramcli.text import shown

QUARANTINE = "quarantine"

_SHARDS = Path("views", CLEAN, "shards")


@dataclass(frozen=True)
class Repaired:
    """Outcome of a repair."""

    moved: Mapping[Path, Path]
    """Where damaged files are now."""
    computed: int
    """Clips that were computed again."""
    whole: bool
    """Whether every clip has its row again; if not, extract must derive or compute some."""
    advice: tuple[str, ...]
    """What else is left to do, a line each."""


def repair(
    cache: Path,
    *,
    full: bool = False,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    config: Path | None = None,
    progress: Progress | None = None,
) -> Repaired:
    """Moves every damaged file into ``quarantine/`` and computes the clips of damaged shards again, and only these.

    A shard is laid out as it was, by ``clips.csv``, so it gets its old bytes back where network and audio are as they
    were. Nothing is deleted.

    Args:
        cache: Folder of the cache.
        full: Whether to look for damage as `verify` does with ``full``.
        flags: Settings of how to run, over those of the extract, by section and key.
        config: A settings file.
        progress: Told of tasks, steps and notes.

    Raises:
        ArtefactError: There is no cache, or its network is no longer what it was.
        ResourceError: Device, space or permission is missing.
        LockedError: Another process writes to the cache.
    """
    progress = progress or Silent()
    with durable_files.lock(cache):
        faults = verify(cache, full=full, progress=progress).faults
        if any(_is_shard(cache, path) for path in faults):
            failures.forget(cache)  # it would outlive the rows that it tells of; shards say the same
        moved = {
            path: durable_files.move(path, cache / QUARANTINE / path.parent.relative_to(cache))
            for path in sorted(faults)
        }
        for path, there in moved.items():
            progress.note(f"{shown(path)}: moved to {shown(there)}")
        computed, whole = 0, not {cache / "clips.csv", cache / "views" / CLEAN / "view.json"} & moved.keys()
        if whole:
            view, rows, lost = View.open(cache), clip_table.require(cache).rows, _lost(cache)
            view.sweep(view.folder)
            groups = {number: group for number, group in clip_table.by_shard(rows).items() if number in lost}
            computed, whole = _compute(cache, view, groups, flags, config, progress)
            failures.write(cache, rows, failures.read(cache, view, rows))
    return Repaired(moved, computed, whole, tuple(_advice(cache, moved)))


def _is_shard(cache: Path, path: Path) -> bool:
    return path.parent == cache / _SHARDS


def _lost(cache: Path) -> set[int]:
    """Returns the shards that are in quarantine with nothing as good in their place, whichever run moved them there."""
    view = View.open(cache)
    present, lost = view.present(), set()
    for path in (cache / QUARANTINE / _SHARDS).glob("*.h5*"):
        name = shard_name(path.with_name(path.name.partition("~")[0]))
        if name and (name[0] not in present or view.generations(name[0])[-1] < name[1]):
            lost.add(name[0])
    return lost


def _compute(
    cache: Path,
    view: View,
    groups: Mapping[int, Sequence[Clip]],
    flags: Mapping[str, Mapping[str, Any]] | None,
    config: Path | None,
    progress: Progress,
) -> tuple[int, bool]:
    """Fills the places of lost shards.

    Returns:
        How many clips were computed, and whether these are all.
    """
    if not groups:
        return 0, True
    present = view.present()
    gone = {number: _each_row(group) for number, group in groups.items() if number not in present}
    # of these an earlier generation counts again, and what it lacks is tried once more
    older = [clip for number, group in groups.items() if number in present for clip in group]
    settings, ready = reopen_network(view, flags, config)
    with Decoders.of(settings) as decoders:
        heard = compare_audio([clip for group in gone.values() for clip in group], decoders, progress)
        todo = {number: group for number, group in gone.items() if _as_before(group, heard)}
        progress.start("computing again", sum(map(len, todo.values())))
        for number, rows in compute_shards(todo, ready, decoders, settings, progress):
            view.write(number, rows)
        failed = failures.read(cache, view, older)
        retry_failed_clips(cache, view, older, failed, ready, decoders, settings, progress)
    return sum(map(len, todo.values())) + len(failed), len(todo) == len(gone)


def _each_row(clips: Sequence[Clip]) -> list[Clip]:
    """Returns one clip a row: several names of one audio share theirs."""
    return list({clip.row: clip for clip in clips}.values())


def _as_before(clips: Sequence[Clip], heard: AudioCheck) -> bool:
    """Tells whether these are all rows of a shard, and their audio is still there and the same."""
    return [clip.row for clip in clips] == list(range(len(clips))) and not {clip.path for clip in clips} & heard.lost


def _advice(cache: Path, moved: Mapping[Path, Path]) -> Iterator[str]:
    """Says what only the user can do."""
    views = {path.relative_to(cache / "views").parts[0] for path in moved if cache / "views" in path.parents}
    for name in sorted(views - {CLEAN}):
        yield f"condition {shown(name)}: the next evaluate or extract with --condition computes what is missing"
    if cache / statistics.FILE in moved:
        yield "run gramcli calibrate and gramcli select-layers"
    elif cache / decision.FILE in moved:
        yield "run gramcli select-layers"
