"""From the rows of a manifest to clips: each row cut into windows, each window known by its content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gramcli import __version__
from gramcli.audio.windows import windows
from gramcli.cache.clip_table import ClipTable
from gramcli.dataset import splits
from gramcli.dataset.clip import Clip, window_key
from gramcli.errors import AudioError
from gramcli.progress import Progress
from gramcli.settings.schema import Settings

if TYPE_CHECKING:
    from gramcli.audio.decoder_pool import Decoders
    from gramcli.audio.reader import Probe
    from gramcli.dataset.manifest import Row


def find_clips(
    rows: Iterable[Row],
    previous: ClipTable | None,
    decoders: Decoders,
    seconds: float,
    progress: Progress,
    *,
    hashed: bool = True,
) -> list[Clip]:
    """Cuts every row of a manifest into windows and gives each its key; nothing has a place yet.

    A file whose size and time of change are those of the previous table is not read again. Without `hashed`, of others
    only the header is, and their keys are made up: each file is taken to be one that no other has the audio of.

    Raises:
        UsageError: One group or one audio in two splits, or one audio with two labels; both rows are named.
    """
    rows = list(rows)
    known: dict[tuple[str, str, int, int], list[Clip]] = {}
    if previous is not None and previous.seconds == seconds:
        for clip in previous.rows:
            if clip.key and clip.split:
                known.setdefault((clip.source, clip.path, clip.bytes, clip.mtime_ns), []).append(clip)
    stats = {path: _stat(path) for path in {row.path for row in rows}}
    unread = [
        row.path
        for row in rows
        if not isinstance(stat := stats[row.path], str) and (row.id, row.path, *stat) not in known
    ]
    probes: dict[str, Probe | AudioError] = {}
    paths = list(dict.fromkeys(unread))
    if paths:
        progress.start("reading files", len(paths))
        for path, probe in zip(paths, decoders.probe(paths, hashed=hashed), strict=True):
            if not hashed and not isinstance(probe, AudioError):
                probe = replace(probe, digest=hashlib.sha256(os.fsencode(path)).hexdigest())
            probes[path] = probe
            progress.advance(1, failed=isinstance(probe, AudioError))
    clips: list[Clip] = []
    origins: list[str] = []
    for row in rows:
        found = _cut(row, stats[row.path], known, probes.get(row.path), seconds)
        clips += found
        origins += [row.origin] * len(found)
    splits.check_disjoint(
        (origin, clip.split, clip.label, clip.group, clip.key) for origin, clip in zip(origins, clips, strict=True)
    )
    return clips


def manifest_digest(settings: Settings) -> str:
    """Names all that the rows of a table of clips depend on, but for the audio files; empty for a folder.

    That is the bytes of the manifest and the settings that say how to read it.
    """
    manifest = Path(settings.data.manifest or "")
    if not manifest.is_file():
        return ""
    sections = settings.as_dict()
    told = [__version__, str(manifest.absolute()), *(sections[name] for name in ("data", "segment", "network"))]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode("utf-8", "surrogatepass"))
    digest.update(manifest.read_bytes())
    return digest.hexdigest()


def _stat(path: str) -> tuple[int, int] | str:
    try:
        stat = os.stat(path)  # noqa: PTH116 - a name that is not UTF-8 must come through as it is
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or "no valid file name"
    return stat.st_size, stat.st_mtime_ns


def _cut(
    row: Row,
    stat: tuple[int, int] | str,
    known: Mapping[tuple[str, str, int, int], list[Clip]],
    probe: Probe | AudioError | None,
    seconds: float,
) -> list[Clip]:
    size, changed = (0, 0) if isinstance(stat, str) else stat
    if (row.id, row.path, size, changed) in known:
        before = known[row.id, row.path, size, changed]
        return [
            clip._replace(label=row.label, split=row.split, group=row.group, shard=None, row=None) for clip in before
        ]
    clip = Clip(
        row.id, "", row.id, row.path, size, changed, row.start, row.end, row.label, row.split, row.group, None, None
    )
    if isinstance(stat, str):
        return [clip._replace(error=stat)]
    if probe is None or isinstance(probe, AudioError):
        return [clip._replace(error=str(probe))]
    try:
        parts = windows(probe.duration, row.start, row.end, seconds)
    except AudioError as error:
        return [clip._replace(error=str(error))]
    if parts == [None]:
        return [clip._replace(key=window_key(probe.digest, None))]
    name = row.id if row.start is None and row.end is None else row.id.rpartition("@")[0]
    return [
        clip._replace(
            id=row.id if len(parts) == 1 else f"{name}@{part[0]:g}-{part[1]:g}",
            key=window_key(probe.digest, part),
            start=part[0],
            end=part[1],
            parent_digest=probe.digest,
        )
        for part in parts
        if part is not None
    ]
