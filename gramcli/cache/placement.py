"""Which row of which shard belongs to which clip.

A clip is known by its content, so moving, renaming, relabelling and re-splitting cost nothing. A clip that has a row in
a finished shard keeps it for ever; all others get rows in new shards, in an order that depends on the manifest alone,
so a run that was killed and one that was not lay the same plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gramcli.cache.clip_table import ClipTable
from gramcli.cache.shard import row_bytes
from gramcli.dataset.clip import SPLITS, Clip

_SHARD_BYTES = 64 * 2**20
_ROWS = (16, 256)


@dataclass(frozen=True)
class RowPlace:
    """Where a key has its row."""

    shard: int
    row: int


def rows_per_shard(numbers: int) -> int:
    """Returns how many clips of so many numbers make a shard of about 64 MiB, within 16 to 256."""
    return min(max(_SHARD_BYTES // row_bytes(numbers), _ROWS[0]), _ROWS[1])


def known_places(previous: ClipTable | None, done: set[int]) -> dict[str, RowPlace]:
    """Returns where the keys of finished shards have their rows, as the previous table tells."""
    return {
        clip.key: RowPlace(clip.shard, clip.row)
        for clip in (() if previous is None else previous.rows)
        if clip.key and clip.row is not None and clip.shard in done
    }


def assign_places(
    clips: Iterable[Clip], there: Mapping[str, RowPlace], done: set[int], rows_per_shard: int
) -> list[Clip]:
    """Gives every readable clip its place: that of its key, or the next free one in new shards, split by split."""
    clips = list(clips)
    order = {split: index for index, split in enumerate(SPLITS)}
    new = dict.fromkeys(
        clip.key
        for clip in sorted(clips, key=lambda clip: order.get(clip.split, len(SPLITS)))
        if clip.key and clip.key not in there
    )
    first = max(done, default=-1) + 1
    where = {**there, **{key: RowPlace(first + n // rows_per_shard, n % rows_per_shard) for n, key in enumerate(new)}}
    return [clip._replace(shard=where[clip.key].shard, row=where[clip.key].row) if clip.key else clip for clip in clips]


def unlisted_clips(clips: Iterable[Clip], previous: ClipTable | None, there: Mapping[str, RowPlace]) -> list[Clip]:
    """Returns the rows of finished shards that the manifest no longer lists, with an empty split."""
    listed = {clip.key for clip in clips}
    rows = {} if previous is None else {clip.key: clip for clip in previous.rows if clip.key in there}
    return [clip._replace(split="", label="", group="") for key, clip in rows.items() if key not in listed]
