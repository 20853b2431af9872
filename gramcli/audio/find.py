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
        if Path(name).is_dir() or (glob.has_magic(name) and not os.path.lexists(name)):
            found.update(dict.fromkeys(_expand(name)))
        else:
            found[name] = None
    return list(found)


def _expand(name: str) -> list[str]:
    # pathlib's glob takes no absolute pattern
    matches = [name] if Path(name).is_dir() else sorted(glob.glob(name, recursive=True))  # noqa: PTH207
    files: list[str] = []
    for match in map(Path, matches):
        files += _below(match, set()) if match.is_dir() else [str(match)]
    audio = [file for file in files if file.lower().endswith(SUFFIXES)]
    if not audio:
        kinds = Counter(Path(file).suffix.lower() or "no suffix" for file in files).most_common(4)
        listed = ", ".join(f"{count} {shown(kind)}" for kind, count in kinds)
        what = f"no audio, but {listed}" if kinds else "no audio, nor any other file"
        raise NoInputError(f"{shown(name)}: {what}; gramcli reads {' '.join(SUFFIXES)}")
    return audio


def _below(folder: Path, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Yields all files below a folder; follows links to folders, but enters each folder once."""
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise NoInputError(f"{shown(folder)}: cannot be read: {error.strerror}") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if _leads_to_folder(entry):
            yield from _below(Path(entry.path), seen)
        else:
            yield entry.path


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link into a folder that may not be read: taken as a file, which fails by itself
        return False
