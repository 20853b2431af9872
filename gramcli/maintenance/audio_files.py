"""Check whether the audio files of a cache are still the files that were extracted."""

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
    """Outcome of a check of audio files."""

    files: int
    """Files that were read and hashed."""
    changed: tuple[str, ...]
    """Files whose content has changed since they were extracted."""
    gone: Mapping[str, str]
    """Files that cannot be read any more, and why."""

    @property
    def lost(self) -> set[str]:
        """Files that have changed or cannot be read."""
        return {*self.changed, *self.gone}


def check_audio(cache: Path, decoders: int, *, progress: Progress | None = None) -> AudioCheck:
    """Reads the audio files of all clips that the manifest lists, and compares them with what was extracted.

    Args:
        cache: Folder of the cache.
        decoders: Number of processes that read.
        progress: Told of files.

    Raises:
        ArtefactError: There is no cache.
        DamagedError: ``clips.csv`` is not as it was written.
    """
    unlimited = Limits(math.inf, allow_truncated=True)  # only the content is compared
    with Decoders(decoders, limits=unlimited) as children:
        return compare_audio(
            (clip for clip in clip_table.require(cache).rows if clip.split), children, progress or Silent()
        )


def compare_audio(clips: Iterable[Clip], decoders: Decoders, progress: Progress) -> AudioCheck:
    """Reads the audio files of clips and compares them with the clips' keys.

    Args:
        clips: Rows of ``clips.csv``.
        decoders: What reads the audio.
        progress: Told of files.
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
        elif any(clip.key != window_key(probe.digest, _part(clip)) for clip in group):
            changed.append(path)
        progress.advance(1, failed=not isinstance(probe, Probe))
    return AudioCheck(len(files), tuple(changed), gone)


def _part(clip: Clip) -> tuple[float, float] | None:
    return None if clip.start is None or clip.end is None else (clip.start, clip.end)
