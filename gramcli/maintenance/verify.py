"""``gramcli cache verify``: checks every file of a cache against the digest that it carries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gramcli.cache import clip_table, decision, inventory, shard, statistics
from gramcli.cache.advice import SHARD
from gramcli.cache.view import CLEAN, View, names
from gramcli.errors import ArtefactError, DamagedError, GramcliError, NewerError, ResourceError
from gramcli.progress import Progress, Silent
from gramcli.text import shown


@dataclass(frozen=True)
class Verified:
    """Outcome of a verification."""

    files: int
    """Files of the cache that were read and hashed."""
    faults: Mapping[Path, str]
    """What is wrong, one line per file."""
    unfinished: int
    """Clips that have no shard yet."""

    @property
    def damaged(self) -> tuple[str, ...]:
        """The lines alone."""
        return tuple(self.faults.values())


def verify(cache: Path, *, full: bool = False, progress: Progress | None = None) -> Verified:
    """Reads every file of a cache and compares it with the digest it carries; changes nothing.

    Args:
        cache: Folder of the cache.
        full: Whether to check the numbers too: a file with a correct digest can still hold wrong ones.
        progress: Told of shards.

    Raises:
        ArtefactError: There is no cache, or a file of it was made by a newer version.
        ResourceError: A file cannot be read.
    """
    progress = progress or Silent()
    faults = inventory.misplaced(cache)
    clean = clips = None
    try:
        clean = View.open(cache)
    except DamagedError as error:
        faults[cache / "views" / CLEAN / "view.json"] = str(error)
    try:
        clips = clip_table.require(cache)
    except DamagedError as error:
        faults[cache / "clips.csv"] = str(error)
    rows = () if clips is None else clips.rows
    keys = {(clip.shard, clip.row): clip.key for clip in rows}
    checked = 1
    for name in names(cache):
        checked += 1
        readable = True
        try:
            view = View.open(cache, name)
        except DamagedError as error:
            faults[cache / "views" / name / "view.json"] = str(error)
            view, readable = View(cache / "views" / name, {}, {}), False
        found = [(number, generation) for number in sorted(view.present()) for generation in view.generations(number)]
        progress.start(f"verifying {name}", len(found))
        for number, generation in found:
            path = view.path(number, generation)
            # clips.csv lists the rows of the clean view only
            check = partial(_check, view, number, generation, keys if name == CLEAN else {}, full)
            fault = _fault(check if readable else partial(_sealed, path, cache))
            if fault and not _was_cleaned(view, number, generation):
                faults[path] = fault
            progress.advance(1, failed=bool(fault))
        checked += len(found)
    for file in (statistics.FILE, decision.FILE):
        if inventory.holds(cache, cache / file):
            checked += 1
            if fault := _fault(partial(_derived, cache, clean, file)):
                faults[cache / file] = fault
    present = set() if clean is None else clean.present()
    unfinished = sum(bool(clip.split) and clip.shard is not None and clip.shard not in present for clip in rows)
    return Verified(checked, faults, unfinished)


def _fault(read: Callable[[], object]) -> str:
    """Returns what is wrong with a file; a file that cannot be read, or is of a newer version, is not at fault."""
    try:
        read()
    except (ResourceError, NewerError):
        raise
    except GramcliError as error:
        return str(error)
    return ""


def _derived(cache: Path, view: View | None, file: str) -> None:
    found = statistics.load(cache, None if view is None else view.fingerprint)
    if file == decision.FILE:
        decision.load(cache, found)


def _was_cleaned(view: View, number: int, generation: int) -> bool:
    """Tells whether `gramcli.maintenance.clean` has deleted this generation, as there is a later one by now."""
    view.present()
    return generation not in (those := view.generations(number)) and generation < those[-1]


def _sealed(path: Path, cache: Path) -> None:
    """Raises a GramcliError if a shard of a view whose ``view.json`` is damaged does not match its digest."""
    shard.check(shard.read_bytes(path, cache) or b"", path)


def _check(
    view: View, number: int, generation: int, keys: Mapping[tuple[int | None, int | None], str], full: bool
) -> None:
    """Raises a GramcliError if a shard does not match its digest, the view or ``clips.csv``."""
    rows = view.read(number, with_means=view.with_means and full, generation=generation)
    path = shown(view.path(number, generation))
    for row, key in enumerate(rows.keys):
        if keys.get((number, row), key) != key:
            raise ArtefactError(f"{path}: row {row} is not the clip that clips.csv lists for it")
    if {layer: values.shape[1] for layer, values in rows.descriptors.items()} != view.layers:
        raise ArtefactError(f"{path}: its layers are not those of the view")
    if full:
        for row in _odd(rows):
            raise DamagedError(f"{path}: row {row} holds numbers, though it is marked as failed; {SHARD}")


def _odd(rows: shard.Shard) -> Iterator[int]:
    """Yields failed rows that are not all NaN."""
    failed, filled = ~rows.usable(), np.zeros(len(rows.keys), bool)
    for values in (rows.logits, *rows.descriptors.values(), *rows.means.values()):
        filled |= ~np.isnan(values).all(axis=1)
    yield from np.flatnonzero(failed & filled).tolist()
