"""``failures.csv``: the clips that could not be used and why, for people and for the exit code of a later run.

It is derived: rows of shards say the same. A row is written before its shard is committed, so a shard with failures
never stands without them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from gramcli import files
from gramcli.cache import shard
from gramcli.cache.clips import Clip, by_shard
from gramcli.cache.view import View
from gramcli.errors import DamagedError, ResourceError, shown

_COLUMNS = ["id", "path", "key", "reason"]


def write(cache: Path, clips: Iterable[Clip], reasons: Mapping[str, str]) -> None:
    """Replaces the list.

    Args:
        cache: Folder of the cache.
        clips: All clips.
        reasons: Reason by key for clips that have a row; others speak for themselves.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for clip in clips:
        reason = clip.error or reasons.get(clip.key)
        if reason:  # also of clips that have left the manifest: they may come back
            table.writerow([shown(clip.id), shown(clip.path), clip.key, shown(reason)])
    files.write(cache / "failures.csv", text.getvalue().encode())


def read(cache: Path, view: View, clips: Iterable[Clip]) -> dict[str, str]:
    """Returns the reason by key; read from the shards themselves if the list is gone.

    Raises:
        DamagedError: It is not a list of failures.
        ResourceError: It cannot be read.
    """
    path = cache / "failures.csv"
    try:
        head, *rows = csv.reader(io.StringIO(path.read_bytes().decode(), newline=""), strict=True)
        if head != _COLUMNS:
            raise ValueError
        return {key: reason for _, _, key, reason in rows if key}
    except FileNotFoundError:
        return dict(_from_shards(view, clips))
    except (ValueError, csv.Error):
        raise DamagedError(
            f"{shown(path)}: is damaged; delete it and run gramcli extract, which derives it again"
        ) from None
    except OSError as error:
        raise ResourceError(f"{shown(path)}: cannot be read: {error.strerror}") from None


def _from_shards(view: View, clips: Iterable[Clip]) -> Iterable[tuple[str, str]]:
    present = view.present()
    for number in by_shard(clips):
        if number in present:
            rows = view.read(number, layers=())
            yield from ((key, text) for key, text in zip(rows.keys, rows.status, strict=True) if text != shard.OK)
