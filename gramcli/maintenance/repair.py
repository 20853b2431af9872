"""``gramcli cache verify --repair``: moves damaged files into quarantine, and computes their clips again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gramcli.audio.decoder_pool import Decoders
from gramcli.cache import clip_table, decision, failures, inventory, statistics
from gramcli.cache.view import CLEAN, View, shard_name
from gramcli.dataset.clip import Clip
from gramcli.extraction.compute import Extractor, compute_shards
from gramcli.extraction.reopen import reopen_network
from gramcli.extraction.retry import retry_failed_clips
from gramcli.maintenance.audio_files import AudioCheck, compare_audio
from gramcli.maintenance.verify import verify
from gramcli.settings.run_context import RunContext
from gramcli.system import durable_files, folder_lock
from gramcli.text import shown

QUARANTINE = "quarantine"

_SHARDS = Path("views", CLEAN, "shards")


@dataclass(frozen=True)
class Repaired:
    """Outcome of a repair."""

    moved: Mapping[Path, Path]
    """Damaged files, and where they are now."""
    computed: int
    """Clips that were computed again."""
    complete: bool
    """Whether every clip has its row again; if not, extract must be run again."""
    advice: tuple[str, ...]
    """What the user has to do, one line per item."""


def repair(
    cache: Path,
    context: RunContext | None = None,
    *,
    full: bool = False,
) -> Repaired:
    """Moves every damaged file into ``quarantine/`` and computes the clips of damaged shards again.

    ``clips.csv`` says which clip each row of a shard holds, so a shard gets its old bytes back if network and audio
    have not changed. Nothing is deleted.

    Args:
        cache: Folder of the cache.
        context: Settings of how to run, and progress.
        full: Whether to look for damage as `verify` does with ``full``.

    Raises:
        ArtefactError: There is no cache, or its network has changed since or is not known.
        ResourceError: Device, space or permission is missing.
        LockedError: Another process writes to the cache.
    """
    context = context or RunContext()
    progress = context.progress
    with folder_lock.lock(cache):
        faults = verify(cache, full=full, progress=progress).faults
        if any(_is_shard(cache, path) for path in faults):
            failures.forget(cache)  # its rows may be lost with the shard; it is written again below
        moved = {
            path: durable_files.move(path, cache / QUARANTINE / path.parent.relative_to(cache), below=cache)
            for path in sorted(faults)
        }
        for path, there in moved.items():
            progress.note(f"{shown(path)}: moved to {shown(there)}")
        computed, complete = 0, not {cache / "clips.csv", cache / "views" / CLEAN / "view.json"} & moved.keys()
        if complete:
            view, rows, lost = View.open(cache), clip_table.require(cache).rows, _lost(cache)
            view.sweep()
            groups = {number: group for number, group in clip_table.by_shard(rows).items() if number in lost}
            computed, complete = _compute(cache, view, groups, context)
            failures.write(cache, rows, failures.read(cache, view, rows))
    return Repaired(moved, computed, complete, tuple(_advice(cache, moved)))


def _is_shard(cache: Path, path: Path) -> bool:
    return path.parent == cache / _SHARDS


def _lost(cache: Path) -> set[int]:
    """Returns the shards that are in quarantine and have not been replaced, whichever run moved them there."""
    view = View.open(cache)
    present, lost = view.present(), set()
    for moved in inventory.names(cache, cache / QUARANTINE / _SHARDS):
        name = shard_name(moved.partition("~")[0])
        if name and (name[0] not in present or view.generations(name[0])[-1] < name[1]):
            lost.add(name[0])
    return lost


def _compute(cache: Path, view: View, groups: Mapping[int, Sequence[Clip]], context: RunContext) -> tuple[int, bool]:
    """Computes lost shards again.

    Returns:
        How many clips were computed, and whether these are all.
    """
    if not groups:
        return 0, True
    present = view.present()
    gone = {number: _each_row(group) for number, group in groups.items() if number not in present}
    # these have an earlier generation, whose failed clips are retried
    older = [clip for number, group in groups.items() if number in present for clip in group]
    settings, ready = reopen_network(view, context)
    with Decoders.of(settings) as decoders:
        audio = compare_audio([clip for group in gone.values() for clip in group], decoders, context.progress)
        todo = {number: group for number, group in gone.items() if _as_before(group, audio)}
        extractor = Extractor(ready, decoders, settings, context.progress)
        context.progress.start("computing again", sum(map(len, todo.values())))
        for number, rows in compute_shards(extractor, todo):
            view.write(number, rows)
        failed = failures.read(cache, view, older)
        retry_failed_clips(extractor, cache, view, older, failed)
    return sum(map(len, todo.values())) + len(failed), len(todo) == len(gone)


def _each_row(clips: Sequence[Clip]) -> list[Clip]:
    """Returns one clip per row; files with the same audio share a row."""
    return list({clip.row: clip for clip in clips}.values())


def _as_before(clips: Sequence[Clip], audio: AudioCheck) -> bool:
    """Returns whether these are all rows of a shard, and none of their audio files has changed or is missing."""
    return [clip.row for clip in clips] == list(range(len(clips))) and not {clip.path for clip in clips} & audio.lost


def _advice(cache: Path, moved: Mapping[Path, Path]) -> Iterator[str]:
    """Yields what the user has to do, one line per item."""
    views = {path.relative_to(cache / "views").parts[0] for path in moved if cache / "views" in path.parents}
    for name in sorted(views - {CLEAN}):
        yield f"condition {shown(name)}: the next evaluate or extract with --condition computes what is missing"
    if cache / statistics.FILE in moved:
        yield "run gramcli calibrate and gramcli select-layers"
    elif cache / decision.FILE in moved:
        yield "run gramcli select-layers"
