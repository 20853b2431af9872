"""``gramcli cache verify --full``: checks that the audio files of a cache are still those that were extracted.

Files are compared by their SHA-256 with the keys of their clips. Nothing is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gramcli.audio.decoder_pool import Decoders
from gramcli.audio.limits import Limits
from gramcli.audio.reader import Probe
from gramcli.cache import clip_table
from gramcli.dataset.clip import Clip, window_key
from gramcli.progress import Progress, Silent


@dataclass(frozen=True)
class AudioCheck:
    """Result of the comparison."""

    files: int
    """Number of files that were compared."""
    changed: tuple[str, ...]
    """Paths of files whose bytes are no longer those that were extracted."""
    gone: Mapping[str, str]
    """Why a file cannot be read any more, by path."""

    @property
    def lost(self) -> set[str]:
        """Paths of all files that have changed or cannot be read."""
        return {*self.changed, *self.gone}


def check_audio(cache: Path, decoders: int, *, progress: Progress | None = None) -> AudioCheck:
    """Reads the audio files of all clips that the manifest lists, and compares them with what was extracted.

    Args:
        cache: Folder of the cache.
        decoders: Processes that read.
        progress: Told of files as they are read.

    Raises:
        ArtefactError: There is no cache.
        DamagedError: ``clips.csv`` is damaged.
        ResourceError: A decoder process cannot be started.
    """
    limits = Limits(math.inf, allow_truncated=True)  # only the bytes count, whatever the audio
    with Decoders(decoders, limits=limits) as children:
        return compare_audio(
            (clip for clip in clip_table.require(cache).rows if clip.split), children, progress or Silent()
        )


def compare_audio(clips: Iterable[Clip], decoders: Decoders, progress: Progress) -> AudioCheck:
    """Reads the audio files of clips and compares them with the clips' keys.

    Args:
        clips: Rows of ``clips.csv``.
        decoders: Processes that read the files.
        progress: Told of files as they are read.

    Raises:
        ResourceError: A decoder process cannot be started.
    """
    files: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.key and clip.path:  # descriptors that were computed elsewhere have no audio
            files.setdefault(clip.path, []).append(clip)
    progress.start("reading audio", len(files))
    changed: list[str] = []
    gone: dict[str, str] = {}
    for (path, group), probe in zip(files.items(), decoders.probe(files), strict=True):
        if not isinstance(probe, Probe):
            gone[path] = str(probe)
        elif any(clip.key != window_key(probe.digest, clip.part) for clip in group):
            changed.append(path)
        progress.advance(1, failed=not isinstance(probe, Probe))
    return AudioCheck(len(files), tuple(changed), gone)
