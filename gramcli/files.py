"""The one place that writes: every file appears under its name whole and durable, or not at all.

The order is always the same: a temporary file in the same folder, write, fsync, then link (a new name, never over an
old file) or rename (over it), then fsync of the folder. A kill at any moment leaves the old state or the new one, and
at worst a temporary file, which the next writer sweeps away.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from gramcli.errors import LockedError, ResourceError, UsageError, shown

_SUFFIX = ".tmp"


def _resource_error(path: Path, error: OSError) -> ResourceError:
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
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _resource_error(path, error) from None


def require_place(path: Path) -> None:
    """Refuses a name that no file can be written under, before the work for the file is done.

    Raises:
        UsageError: It is a folder, or there is no folder to hold it.
        ResourceError: That folder cannot be written.
    """
    if path.is_dir():
        raise UsageError(f"{shown(path)}: is a folder; name a file")
    if not path.parent.is_dir():
        raise UsageError(f"{shown(path)}: there is no folder {shown(path.parent)}; make it, or name another file")
    if not os.access(path.parent, os.W_OK):
        raise _resource_error(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


@contextlib.contextmanager
def staged(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yields a temporary path; what the caller leaves there becomes `path`, durably, when the block ends well.

    Args:
        path: The final name.
        replace: Whether a file of that name may be there. If not, `FileExistsError` is raised and the old one stays.

    Raises:
        ResourceError: Disk full, no permission, or any other fault of the file system.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}{_SUFFIX}")
    try:
        yield temporary
        _sync(temporary)
        if replace:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)
        _sync(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise _resource_error(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Writes a whole file; see `staged`."""
    with staged(path, replace=replace) as temporary, temporary.open("wb") as file:
        file.write(content)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Removes temporary files that killed runs left in a folder. Only the holder of the cache's lock may call it.

    Raises:
        ResourceError: One cannot be removed.
    """
    for path in folder.glob(f".*{_SUFFIX}"):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _resource_error(path, error) from None


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Holds the folder's writer lock; the kernel releases it however the process ends. Readers need none.

    Raises:
        LockedError: Another process holds it; host, process and start are named.
        ResourceError: There is no room or no permission for it, or the file system has no locks.
    """
    make_folder(folder)
    path = folder / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise _resource_error(path, error) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(f"{shown(folder)}: in use by {_holder(descriptor)}; wait until it has finished") from None
        except OSError as error:  # a network file system without locks must not pass for a free one
            raise ResourceError(f"{shown(path)}: cannot be locked: {error.strerror}; use a local --cache") from None
        holder = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        except OSError as error:
            raise _resource_error(path, error) from None
        yield
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 1000, 0))
        return shown(f"process {holder['process']} on {holder['host']} since {holder['since']}")
    except (ValueError, KeyError, TypeError, RecursionError):
        return "another process"


def reserve(path: Path, size: int) -> None:
    """Makes a new file of `size` zero bytes whose space is really there, so that a memory map cannot run out of it.

    Raises:
        OSError: The disk has no room (`staged` turns it into a `ResourceError`).
    """
    with path.open("xb") as file:
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(file.fileno(), 0, size)
        file.truncate(size)
