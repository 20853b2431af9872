"""``failures.csv``: the clips that could not be used and why, for people and for the exit code of a later run.

It is derived: rows of shards say the same, and where it is not as it was written, they are asked. A row is written
before its shard is committed, so a shard with failures never stands without them. The first line carries the SHA-256 of
the rest.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from gramcli.cache import regular_file, shard
from gramcli.cache.clip_table import by_shard
from gramcli.cache.view import View
from gramcli.dataset.clip import Clip
from gramcli.errors import DamagedError
from gramcli.system import durable_files
from gramcli.text import shown

FILE = "failures.csv"

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
    body = text.getvalue().encode()
    durable_files.write(cache / FILE, _head(body) + body)


def _head(body: bytes) -> bytes:
    return f"# gramcli failures sha256={hashlib.sha256(body).hexdigest()}\n".encode()


def forget(cache: Path) -> None:
    """Removes the list, so that the shards are asked.

    Raises:
        ResourceError: It cannot be removed.
    """
    durable_files.remove(cache / FILE)


def read(cache: Path, view: View, clips: Iterable[Clip]) -> dict[str, str]:
    """Returns the reason by key; read from the shards themselves if the list is gone, damaged or edited.

    Raises:
        DamagedError: A shard that is asked is not as it was written.
        ResourceError: It cannot be read.
    """
    try:
        content = regular_file.read(cache / FILE) or b""
    except DamagedError:  # something else stands in its place, which writing it again will name
        content = b""
    head, end, body = content.partition(b"\n")
    if head + end == _head(body):
        with contextlib.suppress(ValueError, csv.Error):  # whoever edits a list may seal it again
            columns, *rows = csv.reader(io.StringIO(body.decode(), newline=""), strict=True)
            if columns != _COLUMNS:
                raise ValueError
            return {key: reason for _, _, key, reason in rows if key}
    return dict(_from_shards(view, clips))


def _from_shards(view: View, clips: Iterable[Clip]) -> Iterable[tuple[str, str]]:
    present = view.present()
    for number in by_shard(clips):
        if number in present:
            rows = view.read(number, layers=())
            yield from ((key, text) for key, text in zip(rows.keys, rows.status, strict=True) if text != shard.OK)
