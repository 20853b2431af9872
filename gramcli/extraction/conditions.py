"""Extracts clips under conditions such as added noise; each condition is a view of the cache.

The view of a condition holds only the clips that were asked for, so its shards are laid out on their own: they say
which keys they hold, and missing clips go into new shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gramcli.audio.background import check_recordings
from gramcli.audio.condition import Condition
from gramcli.audio.decoder_pool import Decoders
from gramcli.cache import inventory, placement
from gramcli.cache.placement import RowPlace
from gramcli.cache.view import View
from gramcli.dataset.clip import Clip
from gramcli.extraction.compute import Extractor, fill_shards
from gramcli.extraction.reopen import reopen_network
from gramcli.network.prepare import PreparedNetwork
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.system import folder_lock
from gramcli.system.versions import versions


def extract_conditions(
    cache: Path,
    conditions: Sequence[Condition],
    clips: Sequence[Clip],
    context: RunContext | None = None,
) -> dict[str, tuple[View, list[Clip]]]:
    """Brings the views of some conditions up to date; the network is built only if clips are missing.

    Args:
        cache: Folder of a cache with a clean view.
        conditions: The conditions.
        clips: Clips of the clean view, as `ClipTable.used` returns them.
        context: Its settings may change how the network runs, not what it computes.

    Returns:
        For each condition, as it is written: its view, and the clips with their shards and rows in it.

    Raises:
        ArtefactError: Nothing was extracted, or the network or a background folder has changed since.
        NoInputError: A background recording cannot be decoded.
        DamagedError: The cache is damaged.
        ResourceError: Device, space or permission is missing.
        LockedError: Another process writes to the cache.
    """
    context = context or RunContext()
    clean = View.open(cache)
    settings: Settings | None = None
    ready: PreparedNetwork | None = None
    found: dict[str, tuple[View, list[Clip]]] = {}
    for condition in conditions:
        identity = {**clean.identity, "condition": condition.identity}
        # a complete view is only read, so that a cache on a read-only disk can be evaluated
        view = View.open(cache, condition.name) if _exists(cache, condition) else None
        where = {} if view is None else _places(view)
        if view is None or any(clip.key not in where for clip in clips):
            if settings is None or ready is None:
                settings, ready = reopen_network(clean, context)
            with folder_lock.lock(cache), Decoders.of(settings) as decoders:
                check_recordings(condition, decoders)  # before there is a view that no clip can be written to
                recorded = {"settings": settings.as_dict(), "condition": condition.text, "versions": versions()}
                view = View.create(cache, identity, recorded, condition.name)
                where = _places(view)
                todo = _missing(view, clips, where, settings.cache.clips_per_shard)
                extractor = Extractor(ready, decoders, settings, context.progress)
                fill_shards(extractor, view, todo, condition=condition)
                where = _places(view)
        else:
            view.require(identity)
        placed = [clip._replace(shard=where[clip.key].shard, row=where[clip.key].row) for clip in clips]
        found[condition.text] = view, placed
    return found


def _exists(cache: Path, condition: Condition) -> bool:
    return inventory.holds(cache, cache / "views" / condition.name / "view.json")


def _places(view: View) -> dict[str, RowPlace]:
    """Returns shard and row of each key; if two shards have a key, those of the first."""
    where: dict[str, RowPlace] = {}
    for number in sorted(view.present()):
        for row, key in enumerate(view.read(number, layers=()).keys):
            where.setdefault(key, RowPlace(number, row))
    return where


def _missing(
    view: View, clips: Sequence[Clip], where: Mapping[str, RowPlace], rows: int | None
) -> dict[int, list[Clip]]:
    """Returns the clips that have no row yet, by the new shards that they go into."""
    rows = placement.rows_per_shard(view.numbers_per_row, rows)
    new = list({clip.key: clip for clip in clips if clip.key not in where}.values())
    first = max(view.present(), default=-1) + 1
    return {first + n: new[n * rows : (n + 1) * rows] for n in range(-(-len(new) // rows))}
