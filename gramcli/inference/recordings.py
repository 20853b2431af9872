"""What a classifier hears in the recordings of a folder, file by file."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gramcli.audio.find import audio_files
from gramcli.dataset.clip import Clip, window_key
from gramcli.errors import NoInputError
from gramcli.inference.classifier import GramClassifier
from gramcli.progress import Progress
from gramcli.text import shown


@dataclass(frozen=True)
class Recording:
    """The windows of one file, judged."""

    path: str
    windows: int
    """Windows that could be judged."""
    unknown: int
    """Those of them beyond the threshold; 0 without one."""
    strangest: float
    """Largest strangeness of a window; -inf where none could be judged."""
    error: str
    """Why a window could not be used, the first of them; empty if all could."""


def recordings_in(folder: Path) -> list[str]:
    """Returns the recordings in a folder, to its depth, in order.

    Raises:
        NoInputError: There is no such folder, no recording in it, or it cannot be read.
    """
    if not folder.is_dir():
        raise NoInputError(f"{shown(folder)}: is no folder; name one that holds recordings")
    return audio_files([folder])


def judge_recordings(classifier: GramClassifier, paths: Sequence[str], progress: Progress) -> Iterator[Recording]:
    """Yields each of some files when its last window is judged; memory does not grow with them."""
    for path, group in itertools.groupby(classifier.stream(paths, progress=progress), key=lambda row: row.path):
        windows, unknown, strangest, error = 0, 0, float("-inf"), ""
        for row in group:
            if row.strangeness is None:
                error = error or row.error
                continue
            windows += 1
            unknown += bool(row.unknown)
            strangest = max(strangest, row.strangeness)
        yield Recording(path, windows, unknown, strangest, error)


def same_audio(paths: Iterable[str], clips: Iterable[Clip]) -> dict[str, Clip]:
    """Returns which files are the audio of some clips, or hold their windows, known by content and not by name."""
    sizes: dict[int, list[Clip]] = {}
    for clip in clips:
        if clip.key:
            sizes.setdefault(clip.bytes, []).append(clip)
    found: dict[str, Clip] = {}
    for path in paths:
        try:
            alike = sizes.get(Path(path).stat().st_size)
            if alike is None:
                continue
            with Path(path).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:  # decoding will say so
            continue
        for clip in alike:
            part = None if clip.start is None or clip.end is None else (clip.start, clip.end)
            if clip.key == window_key(digest, part):
                found[path] = clip
                break
    return found
