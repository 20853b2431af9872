"""``gramcli cache info`` and ``gramcli cache verify``: what a cache holds, and whether it is whole."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gramcli.cache import clips as table
from gramcli.cache import decision as decisions
from gramcli.cache import failures, shard, statistics
from gramcli.cache.decision import Decision
from gramcli.cache.view import CLEAN, View, names
from gramcli.errors import ArtefactError, GramcliError, shown
from gramcli.stages.progress import Progress, Silent


def info(cache: Path) -> dict[str, Any]:
    """Describes a cache in plain values, without reading its shards.

    Raises:
        ArtefactError: There is no cache.
        DamagedError: ``view.json`` or ``clips.csv`` is not as it was written.
    """
    view, clips = View.open(cache), table.require(cache)
    used = [clip for clip in clips.rows if clip.split]
    present = view.present()
    reasons = failures.read(cache, view, clips.rows)
    splits = (*table.SPLITS, table.UNKNOWN)
    return {
        "cache": str(cache),
        "network": view.identity["architecture"],
        "weights": view.identity["weights"],
        "layers": len(view.layers),
        "channels": sum(view.layers.values()),
        "clips": {split: count for split in splits if (count := Counter(c.split for c in used)[split])},
        "classes": len({clip.label for clip in used if clip.label and clip.split != table.UNKNOWN}),
        "failed": sum(bool(clip.error or clip.key in reasons) for clip in used),
        "not extracted": sum(clip.shard is not None and clip.shard not in present for clip in used),
        "no longer listed": len(clips.rows) - len(used),
        "conditions": ", ".join(View.open(cache, name).recorded["condition"] for name in names(cache)[1:]) or "none",
        "shards": len(present),
        "bytes": sum(view.path(number).lstat().st_size for number in present),
        "calibrated": _state(lambda: statistics.load(cache, view.fingerprint)),
        **_selected(cache, view),
        "fingerprint": view.fingerprint,
        "made with": view.recorded["versions"],
    }


def _decision(cache: Path, view: View) -> Decision:
    return decisions.load(cache, statistics.load(cache, view.fingerprint))


def _selected(cache: Path, view: View) -> dict[str, str]:
    """Returns whether layers are selected, and from which strangeness on a sound is unknown."""
    try:
        limit = _decision(cache, view).threshold
    except ArtefactError as error:
        return {"layers selected": f"no ({error})", "threshold": "none"}
    beyond = "none" if limit is None else f"{limit.value:.3f}, which {limit.promise}"
    return {"layers selected": "yes", "threshold": beyond}


def _state(read: Callable[[], object]) -> str:
    try:
        read()
    except ArtefactError as error:
        return f"no ({error})"
    return "yes"


@dataclass(frozen=True)
class Verified:
    """Outcome of a verification."""

    files: int
    """Files that were read and hashed."""
    damaged: tuple[str, ...]
    """What is wrong, one line a file."""


def verify(cache: Path, *, progress: Progress | None = None) -> Verified:
    """Reads every file of a cache and compares it with the digest it carries; changes nothing.

    Raises:
        ArtefactError: There is no cache.
    """
    progress = progress or Silent()
    view = View.open(cache)
    clips = table.require(cache)
    places: dict[tuple[int | None, int | None], str] = {(clip.shard, clip.row): clip.key for clip in clips.rows}
    damaged: list[str] = []
    checked = 1
    for name in names(cache):
        try:
            one = View.open(cache, name)
        except GramcliError as error:
            damaged.append(str(error))
            continue
        numbers = sorted(one.present())
        progress.start(f"verifying {name}", len(numbers))
        for number in numbers:
            # a condition's view has places of its own, which its shards alone know
            faults = list(_faults(partial(_check_shard, one, number, places if name == CLEAN else {})))
            damaged += faults
            progress.advance(1, failed=len(faults))
        checked += len(numbers) + 1
    for name, read in (
        (statistics.FILE, lambda: statistics.load(cache, view.fingerprint)),
        (decisions.FILE, lambda: _decision(cache, view)),
    ):
        if os.path.lexists(cache / name):
            checked += 1
            damaged += _faults(read)
    return Verified(checked, tuple(damaged))


def _faults(read: Callable[[], object]) -> Iterator[str]:
    try:
        read()
    except GramcliError as error:
        yield str(error)


def _check_shard(view: View, number: int, places: dict[tuple[int | None, int | None], str]) -> shard.Shard:
    rows = view.read(number)
    for row, key in enumerate(rows.keys):
        if places.get((number, row), key) != key:
            raise ArtefactError(f"{shown(view.path(number))}: row {row} is not the clip that clips.csv has there")
    if {layer: values.shape[1] for layer, values in rows.descriptors.items()} != view.layers:
        raise ArtefactError(f"{shown(view.path(number))}: its layers are not those of the view")
    return rows
