"""Opens files and folders below a root folder, such as a cache, without following a link on the way.

A cache may come from somebody else, and a link in it could lead anywhere. So a path below a root is never handed to the
system as a whole. Each folder on the way is opened from the one above it, and links are refused. What is then read,
written or deleted is a name in an opened folder: a folder that is replaced by a link meanwhile does not matter. The
root itself may be a link, as may files and folders that the user names; those have no root (`below` is None).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from gramcli.errors import DamagedError, NoInputError, UsageError
from gramcli.text import shown

_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_READ = os.O_RDONLY | os.O_NONBLOCK  # so that opening a pipe does not block


def kind(mode: int) -> str:
    """Returns what stands under a name, in words, from its `stat.st_mode`."""
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe"}
    return kinds.get(stat.S_IFMT(mode), "a socket" if stat.S_ISSOCK(mode) else "a device")


def wrong_kind(path: Path, mode: int, below: Path | None) -> DamagedError | UsageError:
    """Returns the error for something other than a file that stands where gramcli writes one.

    Args:
        path: What stands there.
        mode: Its `stat.st_mode`.
        below: Folder of the cache that it belongs to; None for a name that the user gave.
    """
    if below is None:
        return UsageError(f"{shown(path)}: is {kind(mode)}; name a file")
    return DamagedError(
        f"{shown(path)}: is damaged ({kind(mode)} stands in its place); move that away and run the same command again"
    )


@contextlib.contextmanager
def folder(path: Path, below: Path | None = None) -> Iterator[int]:
    """Yields the descriptor of a folder.

    Args:
        path: The folder.
        below: Root; no link on the way from it to the folder is followed. With None all links are followed.

    Raises:
        DamagedError: Something other than a folder stands on the way below the root.
        OSError: It cannot be opened.
    """
    descriptor = _descend(path, below)
    try:
        yield descriptor
    finally:
        close(descriptor)


def _descend(path: Path, below: Path | None) -> int:
    if below is None:
        return os.open(path, _FOLDER)
    names = path.relative_to(below).parts
    if ".." in names:
        raise ValueError(f"{path} does not lie below {below}")
    here, descriptor = below, os.open(below, _FOLDER)
    for name in names:
        here, outer = here / name, descriptor
        try:
            descriptor = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=outer)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR) and not stat.S_ISDIR(mode := _mode(outer, name)):
                raise wrong_kind(here, mode, below) from None
            raise
        finally:
            close(outer)
    return descriptor


def _mode(descriptor: int, name: str) -> int:
    return os.lstat(name, dir_fd=descriptor).st_mode


@contextlib.contextmanager
def parent(path: Path, below: Path | None = None) -> Iterator[tuple[int, str]]:
    """Yields the descriptor of the folder that holds a path, and the name in it; see `folder`."""
    with folder(path.parent, below) as descriptor:
        yield descriptor, path.name


def require_regular(path: Path, descriptor: int, below: Path | None) -> None:
    """Checks that there is a regular file or nothing under a path, whose folder is open.

    Raises:
        DamagedError, UsageError: There is something else; see `wrong_kind`.
        OSError: It cannot be looked at.
    """
    with contextlib.suppress(FileNotFoundError):
        mode = _mode(descriptor, path.name)
        if not stat.S_ISREG(mode):
            raise wrong_kind(path, mode, below)


def open_file(path: Path, below: Path | None = None) -> int:
    """Opens a regular file for reading and returns its descriptor.

    Args:
        path: The file.
        below: As for `folder`; with a root, the file itself must be no link either.

    Raises:
        NoInputError: The user has named something other than a regular file.
        DamagedError: Something other than a regular file stands in the place of a file of the root.
        OSError: It cannot be opened.
    """
    if below is None:
        descriptor = os.open(path, _READ)
    else:
        with parent(path, below) as (outer, name):
            require_regular(path, outer, below)
            descriptor = os.open(name, _READ | os.O_NOFOLLOW, dir_fd=outer)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        close(descriptor)
        if below is None:
            raise NoInputError(f"{shown(path)}: is {kind(mode)}, not a file; name a file")
        raise wrong_kind(path, mode, below)
    return descriptor


def status(path: Path, below: Path) -> os.stat_result | None:
    """Returns the attributes of what stands under a path, a link's own if it is one; None if there is nothing.

    Raises:
        DamagedError: Something other than a folder stands on the way.
        OSError: It cannot be looked at.
    """
    try:
        with parent(path, below) as (outer, name):
            return os.lstat(name, dir_fd=outer)
    except (FileNotFoundError, NotADirectoryError):
        return None


def names(path: Path, below: Path) -> list[str]:
    """Returns the names in a folder, sorted; none if there is no folder, or the root is no folder.

    Raises:
        DamagedError: Something other than a folder stands there or on the way.
        OSError: It cannot be read.
    """
    try:
        with folder(path, below) as descriptor:
            return sorted(os.listdir(descriptor))  # noqa: PTH208 - a descriptor is no path
    except (FileNotFoundError, NotADirectoryError):
        return []


def exists(descriptor: int, name: str) -> bool:
    """Tells whether there is anything under a name in an opened folder, a link too.

    Raises:
        OSError: It cannot be looked at.
    """
    try:
        os.lstat(name, dir_fd=descriptor)
    except FileNotFoundError:
        return False
    return True


def close(descriptor: int) -> None:
    """Closes a descriptor; an error does not matter, as all that was written through it was synced before."""
    with contextlib.suppress(OSError):
        os.close(descriptor)
