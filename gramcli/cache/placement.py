"""Assigns every clip its row in a shard.

Clips are identified by the SHA-256 of their content, so nothing is computed again when files are moved, renamed,
relabelled or put into other splits. A clip with a row in a finished shard keeps it for good. All others get rows in new
shards, in an order that depends on the manifest alone, so that a run that was killed plans the same shards when it is
repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gramcli.cache.clip_table import ClipTable
from gramcli.cache.regular_file import LARGEST
from gramcli.cache.shard import row_bytes
from gramcli.dataset.clip import SPLITS, Clip
from gramcli.errors import UsageError

_SHARD_BYTES = 64 * 2**20
_ROWS = (16, 256)
_LARGEST = LARGEST["shard"] // 16 * 15
"""Most bytes of the rows of a shard; what HDF5 needs beside them has room in the rest."""


@dataclass(frozen=True)
class RowPlace:
    """Shard and row of a clip."""

    shard: int
    row: int


def rows_per_shard(numbers: int, wanted: int | None = None) -> int:
    """Returns how many clips go into a shard: as many as 64 MiB hold, but at least 16 and at most 256.

    Args:
        numbers: Numbers of one row; see `gramcli.cache.shard.row_bytes`.
        wanted: The setting ``cache.clips_per_shard``, which is returned if it is given.

    Raises:
        UsageError: A shard of the wanted number of clips would be too large to be read.
    """
    if wanted is not None:
        if wanted > (most := _LARGEST // row_bytes(numbers)):
            raise UsageError(
                f"cache.clips_per_shard {wanted}: a file of so many clips of this network would be larger than "
                f"{_LARGEST >> 20} MiB; use at most {most}"
            )
        return wanted
    return min(max(_SHARD_BYTES // row_bytes(numbers), _ROWS[0]), _ROWS[1])


def places_in_finished_shards(previous: ClipTable | None, done: set[int]) -> dict[str, RowPlace]:
    """Returns shard and row by key of all clips in finished shards, according to the previous table."""
    return {
        clip.key: RowPlace(clip.shard, clip.row)
        for clip in (() if previous is None else previous.rows)
        if clip.key and clip.row is not None and clip.shard in done
    }


def assign_places(
    clips: Iterable[Clip], finished: Mapping[str, RowPlace], done: set[int], rows_per_shard: int
) -> list[Clip]:
    """Returns the clips with shard and row: those of their key if it has any, else the next ones of new shards.

    Args:
        clips: All clips of the manifest; those without a key, whose file cannot be read, get no row.
        finished: Shard and row of keys in finished shards.
        done: Numbers of the finished shards.
        rows_per_shard: Clips of a new shard. New rows are given to one split after another.
    """
    clips = list(clips)
    order = {split: index for index, split in enumerate(SPLITS)}
    new = dict.fromkeys(
        clip.key
        for clip in sorted(clips, key=lambda clip: order.get(clip.split, len(SPLITS)))
        if clip.key and clip.key not in finished
    )
    first = max(done, default=-1) + 1
    where = {
        **finished,
        **{key: RowPlace(first + n // rows_per_shard, n % rows_per_shard) for n, key in enumerate(new)},
    }
    return [clip._replace(shard=where[clip.key].shard, row=where[clip.key].row) if clip.key else clip for clip in clips]


def unlisted_clips(clips: Iterable[Clip], previous: ClipTable | None, finished: Mapping[str, RowPlace]) -> list[Clip]:
    """Returns the clips of finished shards that the manifest no longer lists, with empty split, label and group."""
    listed = {clip.key for clip in clips}
    rows = {} if previous is None else {clip.key: clip for clip in previous.rows if clip.key in finished}
    return [clip._replace(split="", label="", group="") for key, clip in rows.items() if key not in listed]
