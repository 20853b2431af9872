"""``gramcli cache clean``: deletes files of a cache that are no longer needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gramcli.cache import clip_table, inventory
from gramcli.cache.view import CLEAN, View, names
from gramcli.maintenance.repair import QUARANTINE
from gramcli.system import durable_files, folder_lock


@dataclass(frozen=True)
class Leftover:
    """A file that can be deleted."""

    path: Path
    bytes: int
    why: str


def leftovers(cache: Path, *, unlisted: bool = False) -> list[Leftover]:
    """Returns the files of a cache that can be deleted.

    Args:
        cache: Folder of the cache.
        unlisted: Whether to include shards whose clips have all been removed from the manifest; if the clips are
            listed again later, they must be computed again.

    Raises:
        ArtefactError: There is no cache.
        DamagedError: ``view.json``, ``clips.csv`` or the later generation of a shard is not as it was written.
    """
    View.open(cache)
    found: list[Leftover] = []
    for path, why in _found(cache, unlisted):
        if (about := inventory.status(cache, path)) is not None:
            found.append(Leftover(path, about.st_size, why))
    return found


def _found(cache: Path, unlisted: bool) -> Iterator[tuple[Path, str]]:
    for path, _ in inventory.entries(cache, cache / QUARANTINE):
        yield path, "damaged, moved into quarantine by a repair"
    listed = {clip.shard for clip in clip_table.require(cache).rows if clip.split}
    for name in names(cache):
        view = View.open(cache, name)
        for number in sorted(view.present()):
            *earlier, latest = view.generations(number)
            if earlier:
                view.read(number, layers=())  # the latest generation must be undamaged
            for generation in earlier:
                yield view.path(number, generation), f"replaced by {view.path(number, latest).name}"
            if unlisted and name == CLEAN and number not in listed:
                yield view.path(number, latest), "its clips are no longer in the manifest"


def clean(cache: Path, *, unlisted: bool = False) -> list[Leftover]:
    """Deletes the files that `leftovers` finds, and returns them.

    Raises:
        ArtefactError: There is no cache.
        DamagedError: ``view.json``, ``clips.csv`` or the later generation of a shard is not as it was written.
        ResourceError: A file cannot be deleted.
        LockedError: Another process writes to the cache.
    """
    with folder_lock.lock(cache):
        found = leftovers(cache, unlisted=unlisted)
        gone = {one.path for one in found}
        clips, view = clip_table.require(cache), View.open(cache)
        # the table first: a shard without rows in it is harmless, but a row without its shard would be computed again
        kept = [clip for clip in clips.rows if clip.split or clip.shard is None or view.path(clip.shard) not in gone]
        if len(kept) < len(clips.rows):
            clip_table.write(cache, kept, clips.seconds)
        for one in found:
            durable_files.remove(one.path, below=cache)
    return found
