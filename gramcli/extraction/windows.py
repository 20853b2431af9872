"""Turns the rows of a manifest into clips: cuts each row into windows, and identifies each window by its content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
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
) -> list[Clip]:
    """Cuts every row of a manifest into windows and gives each its key; no clip has a shard or a row yet.

    A file whose size and modification time are those of the previous table is not read again.

    Args:
        rows: Rows of the manifest.
        previous: Clips of an earlier extract.
        decoders: Read and hash the audio files.
        seconds: Length of a window.
        progress: Told of files.

    Raises:
        UsageError: One group or the same audio in two splits, or the same audio with two labels; both rows are named.
    """
    return _find(rows, previous, seconds, lambda paths: _probe(paths, decoders, progress))


def estimate_clips(
    rows: Iterable[Row],
    previous: ClipTable | None,
    decoders: Decoders,
    seconds: float,
    progress: Progress,
) -> list[Clip]:
    """Does what `find_clips` does, but reads only the headers of new files, for a forecast.

    Their keys are made from their paths, as if no two files held the same audio.
    """

    def probe(paths: Sequence[str]) -> dict[str, Probe | AudioError]:
        return {
            path: one if isinstance(one, AudioError) else replace(one, digest=_path_digest(path))
            for path, one in _probe(paths, decoders, progress, hashed=False).items()
        }

    return _find(rows, previous, seconds, probe)


def _path_digest(path: str) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()


def _probe(
    paths: Sequence[str], decoders: Decoders, progress: Progress, *, hashed: bool = True
) -> dict[str, Probe | AudioError]:
    """Returns what each file says, or why it cannot be used."""
    probes: dict[str, Probe | AudioError] = {}
    if paths:
        progress.start("reading files", len(paths))
    for path, probe in zip(paths, decoders.probe(paths, hashed=hashed), strict=True):
        probes[path] = probe
        progress.advance(1, failed=isinstance(probe, AudioError))
    return probes


def _find(
    rows: Iterable[Row],
    previous: ClipTable | None,
    seconds: float,
    probe: Callable[[Sequence[str]], Mapping[str, Probe | AudioError]],
) -> list[Clip]:
    rows = list(rows)
    previous_windows: dict[tuple[str, str, int, int], list[Clip]] = {}
    if previous is not None and previous.seconds == seconds:
        for clip in previous.rows:
            if clip.key and clip.split:
                previous_windows.setdefault((clip.source, clip.path, clip.bytes, clip.mtime_ns), []).append(clip)
    stats = {path: _stat(path) for path in {row.path for row in rows}}
    unread = [
        row.path
        for row in rows
        if not isinstance(stat := stats[row.path], str) and (row.id, row.path, *stat) not in previous_windows
    ]
    probes = probe(list(dict.fromkeys(unread)))
    clips: list[Clip] = []
    origins: list[str] = []
    for row in rows:
        found = _cut(row, stats[row.path], previous_windows, probes.get(row.path), seconds)
        clips += found
        origins += [row.origin] * len(found)
    splits.check_disjoint(
        (origin, clip.split, clip.label, clip.group, clip.key) for origin, clip in zip(origins, clips, strict=True)
    )
    return clips


def manifest_digest(settings: Settings) -> str:
    """Returns the SHA-256 of the manifest and of the settings that say how to read it; empty for a folder.

    Apart from the audio files, the table of clips depends on nothing else.
    """
    manifest = Path(settings.data.manifest or "")
    if not manifest.is_file():
        return ""
    sections = settings.as_dict()
    about = [__version__, str(manifest.absolute()), *(sections[name] for name in ("data", "segment", "network"))]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode("utf-8", "surrogatepass"))
    with manifest.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
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
    previous_windows: Mapping[tuple[str, str, int, int], list[Clip]],
    probe: Probe | AudioError | None,
    seconds: float,
) -> list[Clip]:
    size, changed = (0, 0) if isinstance(stat, str) else stat
    if (row.id, row.path, size, changed) in previous_windows:
        before = previous_windows[row.id, row.path, size, changed]
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
    # of the content that was hashed, even if the file was replaced since it was listed
    clip = clip._replace(bytes=probe.bytes, mtime_ns=probe.mtime_ns)
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
