"""Applies the decision rule to the recordings of a folder, file by file."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gramcli.audio.find import audio_files
from gramcli.dataset.clip import Clip, window_key
from gramcli.errors import NoInputError
from gramcli.identity import file_digest
from gramcli.inference.classifier import GramClassifier
from gramcli.text import shown


@dataclass(frozen=True)
class Recording:
    """The judged windows of one file."""

    path: str
    windows: int
    """Windows that could be judged."""
    unknown: int
    """Windows above the threshold for unknown sounds; 0 without a threshold."""
    strangest: float
    """Largest strangeness of a window; -inf where none could be judged."""
    error: str
    """Why the first window that could not be used could not; empty if all could."""


def recordings_in(folder: Path) -> list[str]:
    """Returns the recordings in a folder and its sub-folders, in order.

    Raises:
        NoInputError: There is no such folder, no recording in it, or it cannot be read.
    """
    if not folder.is_dir():
        raise NoInputError(f"{shown(folder)}: there is no such folder; name a folder of recordings")
    return audio_files([folder])


def judge_recordings(classifier: GramClassifier, paths: Sequence[str]) -> Iterator[Recording]:
    """Yields each file when its last window is judged; memory does not grow with the number of files."""
    for path, group in itertools.groupby(classifier.stream(paths), key=lambda row: row.path):
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
    """Returns the files that hold the audio of some clips, each with the first such clip; names do not matter.

    A file is hashed only if it is as large as that of a clip, and is not the very file that the clip was made of.
    """
    by_size: dict[int, list[Clip]] = {}
    for clip in clips:
        if clip.key:
            by_size.setdefault(clip.bytes, []).append(clip)
    found: dict[str, Clip] = {}
    for path in paths:
        try:
            about = Path(path).stat()
            candidates = by_size.get(about.st_size)
            if candidates is None:
                continue
            digest = _known_digest(path, about.st_mtime_ns, candidates) or file_digest(path)
        except OSError:  # reported when it is decoded
            continue
        for clip in candidates:
            # a table made before digests were kept has only the keys of windows
            same = clip.file_digest == digest if clip.file_digest else clip.key == window_key(digest, clip.part)
            if same:
                found[path] = clip
                break
    return found


def _known_digest(path: str, mtime_ns: int, clips: Iterable[Clip]) -> str:
    """Returns the digest that the table has of this very file, unchanged since; "" if it has none."""
    absolute = os.path.abspath(path)  # noqa: PTH100 - as the manifest's paths are made, links not followed
    return next((clip.file_digest for clip in clips if clip.path == absolute and clip.mtime_ns == mtime_ns), "")
