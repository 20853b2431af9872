"""``failures.csv``: the clips that could not be used, and why.

It is for people to read, and for the exit code of later runs. The shards hold the same reasons, so where the list is
missing or damaged, they are read instead. A failure is listed before its shard is written, so no shard has failures
that are not listed. The first line holds the SHA-256 of the rest. Cells are as `gramcli.cells` makes them.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from gramcli import cells
from gramcli.cache import regular_file, shard
from gramcli.cache.clip_table import by_shard
from gramcli.cache.view import View
from gramcli.cells import original
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
        clips: All clips; those whose file cannot be read carry their reason.
        reasons: Reason by key of clips that have a row.

    Raises:
        ResourceError: It cannot be written.
    """
    lines = [cells.line(_COLUMNS)]
    for clip in clips:
        reason = clip.error or reasons.get(clip.key)
        if reason:  # also of clips that have left the manifest: they may come back
            lines.append(cells.line(shown(cell) for cell in (clip.id, clip.path, clip.key, reason)))
    body = "".join(lines).encode()
    durable_files.write(cache / FILE, _head(body) + body, below=cache)


def _head(body: bytes) -> bytes:
    return f"# gramcli failures sha256={hashlib.sha256(body).hexdigest()}\n".encode()


def forget(cache: Path) -> None:
    """Deletes the list, so that the next reader takes the reasons from the shards.

    Raises:
        ResourceError: It cannot be removed.
    """
    durable_files.remove(cache / FILE, below=cache)


def read(cache: Path, view: View, clips: Iterable[Clip]) -> dict[str, str]:
    """Returns the reason by key, from the shards if the list is missing, damaged or edited.

    Raises:
        DamagedError: A shard that must be read is damaged.
        ResourceError: The list or a shard cannot be read.
    """
    try:
        content = regular_file.read(cache / FILE, "failures", cache) or b""
    except DamagedError:  # something else is in its place, which will be reported when the list is written
        content = b""
    head, end, body = content.partition(b"\n")
    if head + end == _head(body):
        with contextlib.suppress(ValueError, csv.Error):  # an edited list may have a digest that fits
            columns, *rows = csv.reader(io.StringIO(body.decode(), newline=""), strict=True)
            if columns != _COLUMNS:
                raise ValueError
            return {key: original(reason) for _, _, key, reason in rows if key}
    return dict(_from_shards(view, clips))


def _from_shards(view: View, clips: Iterable[Clip]) -> Iterable[tuple[str, str]]:
    present = view.present()
    for number in by_shard(clips):
        if number in present:
            rows = view.read(number, layers=())
            yield from ((key, text) for key, text in zip(rows.keys, rows.status, strict=True) if text != shard.OK)
