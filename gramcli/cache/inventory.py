"""Lists what is in the folders of a cache, without following a link."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from gramcli.errors import ResourceError
from gramcli.system import opener
from gramcli.text import shown

FOLDERS = ("views", "runs", "quarantine", "folds")
"""Folders in a cache that gramcli makes."""
FILES = ("lock", "clips.csv", "failures.csv", "finished.safetensors", "statistics.safetensors", "decision.safetensors")
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


def files(cache: Path, folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yields all that is in a folder of a cache and in its sub-folders, except these, with the attributes.

    A link is yielded as such, and not followed.

    Raises:
        DamagedError, ResourceError: As in `names`.
    """
    for name in names(cache, folder):
        about = status(cache, folder / name)
        if about is not None and stat.S_ISDIR(about.st_mode):
            yield from files(cache, folder / name)
        elif about is not None:
            yield folder / name, about


def folds(cache: Path) -> list[Path]:
    """Returns the caches of the folds of a cross-validation."""
    folder = cache / "folds"
    return [folder / name for name in names(cache, folder) if holds(cache, folder / name / "views")]


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


def require_own(cache: Path) -> None:
    """Checks that what stands in a cache is what gramcli makes there, before long work that would fail at the end.

    Raises:
        DamagedError: A link, pipe or device stands in the place of a file or folder.
        ResourceError: The cache cannot be read.
    """
    for name in FILES:
        _require(cache, cache / name, stat.S_ISREG)
    for name in FOLDERS:
        _require(cache, cache / name, stat.S_ISDIR)


def _require(cache: Path, path: Path, fits: Callable[[int], bool]) -> None:
    about = status(cache, path)
    if about is not None and not fits(about.st_mode):
        raise opener.wrong_kind(path, about.st_mode, cache)


def _unreadable(path: Path, error: OSError) -> ResourceError:
    return ResourceError(f"{shown(path)}: cannot be read: {error.strerror}")
