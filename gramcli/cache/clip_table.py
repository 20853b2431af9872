"""``clips.csv``: the table of all clips of a cache, with the shard and row of each.

Every extract derives it anew from the manifest and the shards; only the manifest is meant to be edited. One row is one
window of audio. Clips that the manifest no longer lists keep their row, with an empty split, so that nothing need be
computed if they come back. The first line holds the SHA-256 of the rest. Cells are as `gramcli.cells` makes them.
"""

from __future__ import annotations

import contextlib
import csv
import gc
import hashlib
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gramcli.cache import regular_file
from gramcli.cache.advice import advice
from gramcli.cells import harmless, original
from gramcli.dataset.clip import Clip
from gramcli.errors import ArtefactError, DamagedError, GramcliError, NewerError
from gramcli.system import durable_files
from gramcli.text import shown

FORMAT = 3
_COLUMNS = {1: Clip._fields[:-1], 2: Clip._fields, 3: Clip._fields}
"""Columns by format: the first kept no digest of the file that a window is a part of."""
_AS_IT_IS = 2
"""Last format whose cells are the texts themselves, also where a spreadsheet would run them."""

_TYPES = {"bytes": int, "mtime_ns": int, "start": float, "end": float, "shard": int, "row": int}
_PART = 10_000
"""Rows that are held as text while the table is read."""
_REPEATED = ("label", "split", "group", "path", "error", "parent_digest")
"""Columns whose values recur; each value is kept in memory once."""


@dataclass(frozen=True)
class ClipTable:
    """All clips of a cache."""

    rows: tuple[Clip, ...]
    seconds: float
    """Length of the windows that files were cut into."""

    def used(self, *splits: str) -> list[Clip]:
        """Returns the clips of some splits that have a row in a shard, each audio once, in order of their keys."""
        stored = (clip for clip in self.rows if clip.split in splits and clip.shard is not None)
        # of several files with the same audio, the one whose id sorts first, whatever the order of the manifest
        unique = {clip.key: clip for clip in sorted(stored, key=lambda clip: clip.id, reverse=True)}
        return [unique[key] for key in sorted(unique)]

    def digest(self, *splits: str) -> str:
        """Returns the SHA-256 of keys, labels, splits and groups of some splits, whatever the order of rows."""
        digest = hashlib.sha256(b"[")
        for n, clip in enumerate(self.used(*splits)):
            values = repr([clip.key, clip.label, clip.split, clip.group])
            digest.update(f"{', ' * bool(n)}{values}".encode("utf-8", "surrogatepass"))
        digest.update(b"]")
        return digest.hexdigest()


def by_shard(clips: Iterable[Clip]) -> dict[int, list[Clip]]:
    """Groups clips by the shard that holds them, shards and their rows in order."""
    groups: dict[int, list[Clip]] = {}
    for clip in sorted(clips, key=lambda clip: (clip.shard or 0, clip.row or 0)):
        if clip.shard is not None:
            groups.setdefault(clip.shard, []).append(clip)
    return groups


def write(cache: Path, rows: Sequence[Clip], seconds: float) -> None:
    """Replaces the table, whole or not at all.

    Raises:
        ResourceError: It cannot be written.
    """
    content = io.BytesIO()
    # names of files need not be UTF-8: surrogates stand for their bytes and come back as they were
    text = io.TextIOWrapper(content, "utf-8", "surrogateescape", newline="")
    table = csv.writer(text)  # ends lines with CR LF: with LF alone it would not quote a CR in a name
    table.writerow(Clip._fields)
    for start in range(0, len(rows), _PART):
        columns = zip(*rows[start : start + _PART], strict=True)
        table.writerows(zip(*map(_cells, Clip._fields, columns), strict=True))
    text.detach()  # flushes, and leaves `content` open
    body = content.getvalue()
    with durable_files.staged(cache / "clips.csv", below=cache) as descriptor:
        durable_files.put(descriptor, _head(FORMAT, float(seconds), body) + b"\n")
        durable_files.put(descriptor, body)


def _head(version: int, seconds: float, body: bytes) -> bytes:
    head = f"# gramcli clips format={version} seconds={seconds!r} sha256=".encode()
    return head + _digest(head, body)


def _digest(head: bytes, body: bytes) -> bytes:
    digest = hashlib.sha256(head)
    digest.update(body)
    return digest.hexdigest().encode()


def read(cache: Path) -> ClipTable | None:
    """Reads the table; None if there is none yet.

    Raises:
        DamagedError: Its digest does not fit its content.
        ArtefactError: A newer gramcli wrote it.
        ResourceError: It cannot be read.
    """
    path = cache / "clips.csv"
    content = regular_file.read(path, "clips", cache)
    if content is None:
        return None
    head, _, body = content.partition(b"\n")
    damaged = DamagedError(f"{shown(path)}: is damaged; {advice('clips')}")
    try:
        stated = dict(part.split("=") for part in head.decode().removeprefix("# gramcli clips ").split())
        version, seconds = int(stated["format"]), float(stated["seconds"])
        if head != _head(version, seconds, body):
            raise damaged
        if version > FORMAT:
            raise NewerError(f"{shown(path)}: was made by a newer gramcli (format {version}); update gramcli")
        with _no_collection():
            lines = csv.reader(io.TextIOWrapper(io.BytesIO(body), "utf-8", "surrogateescape", newline=""))
            names = _COLUMNS[version]
            if tuple(next(lines)) != names:
                raise damaged
            rows: list[Clip] = []
            first: dict[str, str] = {}
            while part := list(itertools.islice(lines, _PART)):  # by columns: row by row takes twice as long
                turned = zip(names, zip(*part, strict=True), strict=True)
                columns = [_column(name, column, first, version) for name, column in turned]
                # of columns that this format does not have, nothing is known
                columns += [[""] * len(part) for _ in Clip._fields[len(names) :]]
                rows += map(Clip._make, zip(*columns, strict=True))
    except (ValueError, KeyError, csv.Error, StopIteration):
        raise damaged from None
    return ClipTable(tuple(rows), seconds)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Stops the collector of reference cycles, which would visit a million new rows again and again for nothing."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def name(cache: Path) -> str:
    """Returns the first line of the table, which holds its digest; empty if the table is missing or damaged."""
    try:
        head, _, body = (regular_file.read(cache / "clips.csv", "clips", cache) or b"").partition(b"\n")
    except GramcliError:
        return ""
    before, _, digest = head.rpartition(b"=")
    return head.decode("ascii", "replace") if _digest(before + b"=", body) == digest else ""


def require(cache: Path) -> ClipTable:
    """Reads the table of a cache that has been extracted.

    Raises:
        ArtefactError: There is no table: nothing was extracted yet.
        DamagedError: Its digest does not fit its content.
    """
    clips = read(cache)
    if clips is None:
        raise ArtefactError(f"{shown(cache)}: no clips.csv there; run gramcli extract first")
    return clips


def _cells(name: str, values: Sequence[Any]) -> Sequence[Any]:
    """Returns the cells of a column; csv writes None as nothing, and a float by its shortest digits."""
    return values if name in _TYPES else list(map(harmless, values))


def _column(name: str, cells: tuple[str, ...], first: dict[str, str], version: int) -> Iterable[Any]:
    """Returns the values of a column; equal texts of `_REPEATED` columns are one object."""
    if name in _TYPES:
        kind = _TYPES[name]
        return [kind(text) if text else None for text in cells]
    texts = cells if version <= _AS_IT_IS else tuple(map(original, cells))
    if name in _REPEATED:
        return [first.setdefault(text, text) for text in texts]
    return texts
