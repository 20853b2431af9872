"""Finds audio files by name, folder or glob."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from gramcli.errors import NoInputError
from gramcli.text import shown

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc")


def audio_files(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Expands files, folders and globs to audio files, each once, in the order of `paths`.

    A file that is named is taken whatever its suffix, and even if it is missing, so that it is reported by itself.
    Folders are searched through all levels and sorted; hidden files and folders in them are left out.

    Raises:
        NoInputError: A folder or a glob without audio, or a folder that cannot be read.
    """
    found: dict[str, None] = {}
    for path in paths:
        name = os.fspath(path)
        if os.path.isdir(name) or (glob.has_magic(name) and not os.path.lexists(name)):
            found.update(dict.fromkeys(_expand(name)))
        else:
            found[name] = None
    return list(found)


def _expand(name: str) -> list[str]:
    try:
        matches = [name] if os.path.isdir(name) else sorted(glob.glob(name, recursive=True))
    except RecursionError:
        raise NoInputError(f"{shown(name)}: folders lie too deep for a pattern; name the folder") from None
    files: list[str] = []
    for match in matches:
        files += _below(str(Path(match))) if os.path.isdir(match) else [str(Path(match))]
    audio = [file for file in files if file.lower().endswith(SUFFIXES)]
    if not audio:
        kinds = Counter(Path(file).suffix.lower() or "no suffix" for file in files).most_common(4)
        listed = ", ".join(f"{count} {shown(kind)}" for kind, count in kinds)
        what = f"no audio, but {listed}" if kinds else "no audio, nor any other file"
        raise NoInputError(f"{shown(name)}: {what}; gramcli reads {' '.join(SUFFIXES)}")
    return audio


def _below(top: str) -> Iterator[str]:
    """Yields all files below a folder; follows links to folders, but enters each folder once.

    Folders are listed one after another and not by a function that calls itself: they can lie deeper than that may go.
    """
    seen: set[tuple[int, int]] = set()
    levels = [iter(_listed(top, seen))]
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
        elif entry.name.startswith("."):
            continue
        elif _leads_to_folder(entry):
            levels.append(iter(_listed(entry.path, seen)))
        else:
            yield entry.path


def _listed(folder: str, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    """Returns what a folder holds, sorted; nothing if it was listed before."""
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            return []
        seen.add((status.st_dev, status.st_ino))
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise NoInputError(f"{shown(folder)}: cannot be read: {error.strerror}") from None


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link into a folder that may not be read: taken as a file, which fails by itself
        return False
