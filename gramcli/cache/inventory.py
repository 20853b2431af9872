"""Lists what is in the folders of a cache, without following a link."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from gramcli.errors import DamagedError, ResourceError
from gramcli.system import opener
from gramcli.text import shown

EXPECTED_FOLDERS = ("views", "runs", "quarantine", "folds")
"""Folders in a cache that gramcli makes."""
EXPECTED_FILES = (
    "lock",
    "clips.csv",
    "failures.csv",
    "finished.safetensors",
    "statistics.safetensors",
    "decision.safetensors",
)
"""Files in a cache that gramcli writes."""


def status(cache: Path, path: Path) -> os.stat_result | None:
    """Returns the attributes of a file of a cache, a link's own if it is one; None if there is nothing.

    Raises:
        DamagedError: Something other than a folder stands on the way.
        ResourceError: It cannot be looked at.
    """
    try:
        return opener.status(path, cache)
    except OSError as error:
        raise _unreadable(path, error) from None


def holds(cache: Path, path: Path) -> bool:
    """Tells whether there is anything under a path of a cache; see `status`."""
    return status(cache, path) is not None


def names(cache: Path, folder: Path) -> list[str]:
    """Returns the names in a folder of a cache, sorted; none if there is no folder.

    Raises:
        DamagedError: Something other than a folder stands there or on the way.
        ResourceError: It cannot be read.
    """
    try:
        return opener.names(folder, cache)
    except OSError as error:
        raise _unreadable(folder, error) from None


def entries(cache: Path, folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yields all that is in a folder of a cache and in its sub-folders, except these, with the attributes.

    A link is yielded as such, and not followed.

    Raises:
        DamagedError, ResourceError: As in `names`.
    """
    for name in names(cache, folder):
        about = status(cache, folder / name)
        if about is not None and stat.S_ISDIR(about.st_mode):
            yield from entries(cache, folder / name)
        elif about is not None:
            yield folder / name, about


def folders(cache: Path, folder: Path) -> list[str]:
    """Returns the names of the folders in a folder of a cache, sorted. Files between them do not matter.

    Raises:
        DamagedError: A link, pipe or device stands among them, or something other than a folder on the way.
        ResourceError: It cannot be read.
    """
    found: list[str] = []
    for name in names(cache, folder):
        about = status(cache, folder / name)
        if about is not None and stat.S_ISDIR(about.st_mode):
            found.append(name)
        elif about is not None and not stat.S_ISREG(about.st_mode):
            raise opener.wrong_kind(folder / name, about.st_mode, cache)
    return found


def fold_caches(cache: Path) -> list[Path]:
    """Returns the caches of the folds of a cross-validation."""
    folder = cache / "folds"
    return [folder / name for name in folders(cache, folder) if holds(cache, folder / name / "views")]


def require_folder(cache: Path, folder: Path) -> None:
    """Checks that a folder in a cache is missing, or is reached without a link.

    Raises:
        DamagedError: Something other than a folder stands there or on the way.
        ResourceError: It cannot be opened.
    """
    try:
        with contextlib.suppress(FileNotFoundError), opener.folder(folder, cache):
            pass
    except OSError as error:
        raise _unreadable(folder, error) from None


def misplaced(cache: Path) -> dict[Path, str]:
    """Returns what stands in the place of a file or folder of a cache and is none, each with an error that says so.

    Raises:
        ResourceError: The cache cannot be read.
    """
    found: dict[Path, str] = {}
    for names_of_kind, fits in ((EXPECTED_FILES, stat.S_ISREG), (EXPECTED_FOLDERS, stat.S_ISDIR)):
        for path in (cache / name for name in names_of_kind):
            about = status(cache, path)
            if about is not None and not fits(about.st_mode):
                found[path] = str(opener.wrong_kind(path, about.st_mode, cache))
    return found


def require_expected_kinds(cache: Path) -> None:
    """Checks a cache for what `misplaced` finds, before long work that would fail at the end.

    Raises:
        DamagedError: There is such a thing.
        ResourceError: The cache cannot be read.
    """
    for error in misplaced(cache).values():
        raise DamagedError(error)


def _unreadable(path: Path, error: OSError) -> ResourceError:
    return ResourceError(f"{shown(path)}: cannot be read: {error.strerror}")
