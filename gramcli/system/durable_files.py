"""Writes, moves and deletes files, so that each is on disk whole or not at all, whenever the process is killed.

Apart from `gramcli.system.folder_lock`, no other module changes files. The steps are always the same: write a temporary
file in the same folder, fsync it, then link it (to a new name, never over an old file) or rename it (over the old
file), then fsync the folder. A kill at any moment leaves the old state or the new one, and at worst a temporary file,
which the next writer deletes (`sweep`). All calls that change a disk go through this module's `os`, `fcntl` and
`flush`, which tests replace to make any one fail.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import filecmp
import mmap
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

from gramcli.errors import ResourceError, UsageError
from gramcli.text import shown

_TEMPORARY = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp", re.DOTALL)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_BLOCK = 1 << 20


def resource_error(path: Path, error: OSError) -> ResourceError:
    """Returns the error that says which file cannot be written, why, and what to do about it."""
    advice = {
        errno.ENOSPC: "free some space and run the same command again",
        errno.EDQUOT: "free some space and run the same command again",
        errno.EROFS: "choose a folder that can be written (--cache, for a cache)",
        errno.EACCES: "choose a folder that can be written (--cache, for a cache)",
        errno.EPERM: "choose a folder that can be written (--cache, for a cache)",
    }.get(error.errno or 0, "nothing that was there is lost")
    return ResourceError(f"{shown(path)}: cannot be written: {error.strerror or error}; {advice}")


def make_folder(path: Path) -> None:
    """Makes a folder and its parents.

    Raises:
        ResourceError: It cannot be made or written.
    """
    try:
        _make(path)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise resource_error(path, error) from None


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
        _sync_folder(path.parent)  # else a power cut could lose the folder with all files in it


def require_place(path: Path) -> None:
    """Checks that a file can be written under this name, before the work for the file is done.

    Raises:
        UsageError: It is a folder, or there is no folder to hold it.
        ResourceError: That folder cannot be written.
    """
    if path.is_dir():
        raise UsageError(f"{shown(path)}: is a folder; name a file")
    if not path.parent.is_dir():
        raise UsageError(f"{shown(path)}: there is no folder {shown(path.parent)}; make it, or name another file")
    if not os.access(path.parent, os.W_OK):
        raise resource_error(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


@contextlib.contextmanager
def staged(path: Path, *, replace: bool = True) -> Iterator[int]:
    """Yields the descriptor of a temporary file, which becomes `path` if the block ends without an error.

    Args:
        path: The final name.
        replace: Whether to replace a file of that name. If not, `FileExistsError` is raised and the old one stays.

    Raises:
        ResourceError: Disk full, no permission, or any other fault of the file system.
    """
    temporary, descriptor, unfinished = path, None, False
    try:
        while descriptor is None:
            temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            unfinished = True
            # A sweep that came between open and lock has removed the file, or is about to. The name was drawn for this
            # file alone, so as long as it exists it leads to this file.
            if not _lock_own(descriptor) or not os.path.lexists(temporary):
                close(descriptor)
                descriptor = None
        yield descriptor
        # the descriptor that was written: another one may not report an earlier fault of the disk
        os.fsync(descriptor)
        if replace:
            os.replace(temporary, path)
        else:
            _link(temporary, path)
            with contextlib.suppress(OSError):  # before the folder is synced, so that no power cut brings it back
                os.unlink(temporary)
        unfinished = False
        _sync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise resource_error(path, error) from None
    finally:
        if unfinished:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if descriptor is not None:
            close(descriptor)


def _lock_own(descriptor: int) -> bool:
    """Locks a new temporary file against `sweep`; returns False where a sweep has it locked.

    On a file system without locks the file stays unlocked, and no sweep can lock it either.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def write(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Writes a whole file; see `staged`."""
    with staged(path, replace=replace) as descriptor:
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


def _link(temporary: Path, path: Path) -> None:
    """Gives a file its name unless that is taken, which raises a FileExistsError."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # without hard links, the lock of the folder keeps other writers out between this check and the rename
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.replace(temporary, path)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot sync folders
            raise
    finally:
        close(descriptor)


def close(descriptor: int) -> None:
    """Closes a descriptor; an error does not matter, as all that was written through it was synced before."""
    with contextlib.suppress(OSError):
        os.close(descriptor)


def remove(path: Path) -> None:
    """Deletes a file, if it is there, so that not even a power cut brings it back.

    Raises:
        ResourceError: It cannot be removed.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            _sync_folder(path.parent)
    except OSError as error:
        raise resource_error(path, error) from None


def move(path: Path, folder: Path) -> Path:
    """Moves a file, link or folder into another folder of the same file system, and returns its name there.

    A file of that name that is there already is kept; the one moved gets a number then, as ``name~1``.

    Raises:
        ResourceError: It cannot be moved.
    """
    make_folder(folder)
    target, count = folder / path.name, 0
    try:
        while os.path.lexists(target) and not _alike(path, target):  # what was moved before is kept
            count += 1
            target = folder / f"{path.name}~{count}"
        # after a power cut a file can have both names
        os.unlink(path) if os.path.lexists(target) else os.replace(path, target)
        _sync_folder(folder)
        _sync_folder(path.parent)
    except OSError as error:
        raise resource_error(path, error) from None
    return target


def _alike(one: Path, other: Path) -> bool:
    return all(path.is_file() and not path.is_symlink() for path in (one, other)) and filecmp.cmp(one, other, False)


def sweep(folder: Path) -> None:
    """Deletes temporary files that killed runs left in a folder, but none that is still being written.

    Raises:
        ResourceError: One cannot be removed.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise resource_error(folder, error) from None
    for path in (folder / name for name in names if _TEMPORARY.fullmatch(name)):
        try:
            _remove_dead(path)
        except FileNotFoundError:  # another one was faster
            pass
        except OSError as error:
            raise resource_error(path, error) from None


def _remove_dead(path: Path) -> None:
    """Deletes a temporary file unless its writer still runs, which then holds a lock on it."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except BlockingIOError:
        pass
    finally:
        close(descriptor)
