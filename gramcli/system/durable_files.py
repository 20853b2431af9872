"""Writes, moves and deletes files, so that each is on disk whole or not at all, whenever the process is killed.

Apart from `gramcli.system.folder_lock` and `gramcli.system.temporary_file`, no other module changes files. The steps
are always the same: write a temporary file in the same folder, fsync it, then link it (to a new name, never over an old
file) or rename it (over the old file), then fsync the folder. A kill at any moment leaves the old state or the new one,
and at worst a temporary file, which the next writer deletes (`sweep`). All calls that change a disk go through `os`,
`fcntl` and `flush` of these modules, which tests replace to make any one fail.

With ``below``, the folder of a cache, no link below that folder is followed (`gramcli.system.opener`). Without it the
user has named the file, and the links in the way to its folder are the user's.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from gramcli.errors import ResourceError
from gramcli.system import opener, temporary_file
from gramcli.system.machine_faults import advice
from gramcli.text import shown

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_BLOCK = 1 << 20


def resource_error(path: Path, error: OSError) -> ResourceError:
    """Returns the error that says which file cannot be written, why, and what to do about it."""
    return ResourceError(f"{shown(path)}: cannot be written: {error.strerror or error}; {advice(error)}")


def make_folder(path: Path, *, below: Path | None = None) -> None:
    """Makes a folder and its parents.

    Raises:
        DamagedError: Something other than a folder stands there or on the way, below the root.
        ResourceError: It cannot be made or written.
    """
    try:
        _make(path if below is None else below)
        if below is not None:
            for one in (*reversed(path.parents), path):
                if below in one.parents:
                    with opener.parent(one, below) as (parent, name):
                        _make_in(parent, name)
        with opener.folder(path, below) as descriptor:
            if not os.access(".", os.W_OK, dir_fd=descriptor):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise resource_error(path, error) from None


def _make_in(parent: int, name: str) -> None:
    try:
        os.mkdir(name, dir_fd=parent)
    except OSError:
        if not opener.exists(parent, name):
            raise
    else:
        _sync_folder(parent)  # else a power cut could lose the folder with all files in it


def _make(path: Path) -> None:
    try:
        os.mkdir(path)
    except FileNotFoundError:
        if path.parent == path:
            raise
        _make(path.parent)
        _make(path)
    except OSError:
        if not path.is_dir():
            raise
    else:
        with opener.folder(path.parent) as descriptor:
            _sync_folder(descriptor)


@contextlib.contextmanager
def staged(path: Path, *, replace: bool = True, below: Path | None = None) -> Iterator[int]:
    """Yields the descriptor of a temporary file, which becomes `path` if the block ends without an error.

    Args:
        path: The final name.
        replace: Whether to replace a file of that name. If not, `FileExistsError` is raised and the old one stays.
        below: Folder of the cache that the file belongs to; None for a file that the user named.

    Raises:
        DamagedError: In the cache, something other than a file has the name, or other than a folder is on the way.
        UsageError: Something other than a file has the name that the user gave.
        ResourceError: Disk full, no permission, or any other fault of the file system.
    """
    try:
        with opener.parent(path, below) as (folder, name):
            opener.require_regular(path, folder, below)
            with temporary_file.create(folder, name) as (temporary, descriptor):
                yield descriptor
                # the descriptor that was written: another one may not report an earlier fault of the disk
                os.fsync(descriptor)
                if replace:
                    os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
                else:
                    _link(folder, temporary, name)
                    with contextlib.suppress(OSError):  # before the sync, so that no power cut brings it back
                        os.unlink(temporary, dir_fd=folder)
            _sync_folder(folder)
    except FileExistsError:
        raise
    except OSError as error:
        raise resource_error(path, error) from None


def write(path: Path, content: bytes, *, replace: bool = True, below: Path | None = None) -> None:
    """Writes a whole file; see `staged`."""
    with staged(path, replace=replace, below=below) as descriptor:
        put(descriptor, content)


def put(descriptor: int, content: bytes | memoryview) -> None:
    """Appends all of the content; the system may take only part of it at a time.

    Raises:
        OSError: The disk has no room, or fails (`staged` turns it into a `ResourceError`).
    """
    rest = memoryview(content)
    while len(rest):
        rest = rest[os.write(descriptor, rest) :]


def mapped(descriptor: int, size: int) -> mmap.mmap:
    """Maps a new file of `size` zero bytes whose space is reserved: on a full disk, writing would crash the process.

    Raises:
        OSError: The disk has no room, or fails (`staged` turns it into a `ResourceError`).
    """
    try:
        os.posix_fallocate(descriptor, 0, size)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.EINVAL, *_NO_LINKS):
            raise
        for first in range(0, size, _BLOCK):  # the file system cannot reserve space
            put(descriptor, bytes(min(_BLOCK, size - first)))
    return mmap.mmap(descriptor, size)


def flush(content: mmap.mmap) -> None:
    """Writes the changes of a mapped file to disk.

    Raises:
        OSError: The disk fails (`staged` turns it into a `ResourceError`).
    """
    content.flush()


def _link(folder: int, temporary: str, name: str) -> None:
    """Gives a file its name unless that is taken, which raises a FileExistsError."""
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # without hard links, the lock of the folder keeps other writers out between this check and the rename
        if opener.exists(folder, name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def _sync_folder(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot sync folders
            raise


def remove(path: Path, *, below: Path | None = None) -> None:
    """Deletes a file or a link, if it is there, so that not even a power cut brings it back.

    Raises:
        DamagedError: Something other than a folder stands on the way, below the root.
        ResourceError: It cannot be removed.
    """
    try:
        with contextlib.suppress(FileNotFoundError), opener.parent(path, below) as (folder, name):
            os.unlink(name, dir_fd=folder)
            _sync_folder(folder)
    except OSError as error:
        raise resource_error(path, error) from None


def move(path: Path, folder: Path, *, below: Path | None = None) -> Path:
    """Moves a file, link or folder into another folder of the same file system, and returns its name there.

    A file of that name that is there already is kept; the one moved gets a number then, as ``name~1``.

    Raises:
        DamagedError: Something other than a folder stands on the way, below the root.
        ResourceError: It cannot be moved.
    """
    make_folder(folder, below=below)
    target, count = path.name, 0
    try:
        with opener.parent(path, below) as (source, name), opener.folder(folder, below) as goal:
            while (found := opener.exists(goal, target)) and not _alike(source, name, goal, target):
                count += 1  # what was moved before is kept
                target = f"{name}~{count}"
            if found:  # after a power cut a file can have both names
                os.unlink(name, dir_fd=source)
            else:
                os.replace(name, target, src_dir_fd=source, dst_dir_fd=goal)
            _sync_folder(goal)
            _sync_folder(source)
    except OSError as error:
        raise resource_error(path, error) from None
    return folder / target


def _alike(folder: int, name: str, other_folder: int, other_name: str) -> bool:
    """Tells whether two names are those of regular files with the same content."""
    descriptors: list[int] = []
    try:
        for where, one in ((folder, name), (other_folder, other_name)):
            if not stat.S_ISREG(os.lstat(one, dir_fd=where).st_mode):
                return False
            descriptors.append(os.open(one, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=where))
        one_file, other_file = descriptors
        while (block := os.read(one_file, _BLOCK)) == os.read(other_file, _BLOCK):
            if not block:
                return True
        return False
    finally:
        for descriptor in descriptors:
            opener.close(descriptor)


def sweep(folder: Path, *, below: Path | None = None) -> None:
    """Deletes temporary files that killed runs left in a folder, but none that is still being written.

    Raises:
        DamagedError: Something other than a folder stands there or on the way, below the root.
        ResourceError: One cannot be removed.
    """
    try:
        with opener.folder(folder, below) as descriptor:
            for name in os.listdir(descriptor):
                if temporary_file.is_temporary(name):
                    try:
                        temporary_file.remove_dead(descriptor, name)
                    except FileNotFoundError:  # another one was faster
                        pass
                    except OSError as error:
                        raise resource_error(folder / name, error) from None
    except FileNotFoundError:
        return
    except OSError as error:
        raise resource_error(folder, error) from None
