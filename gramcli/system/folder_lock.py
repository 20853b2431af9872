"""The writer lock of a folder: one process at a time changes the files in it.

The lock is held on the file ``lock`` in the folder, which also says who holds it. It is written in place, so it must be
a file of its own that holds nothing else: not a link, not a second name of another file. All calls that change a disk
go through this module's `os` and `fcntl`, which tests replace to make any one fail.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from gramcli import json_values
from gramcli.errors import DamagedError, LockedError, ResourceError
from gramcli.system import durable_files, opener
from gramcli.text import shown

_LONGEST = 1000
"""Most bytes of the text that says who holds the lock."""
_BEGIN = b'{"host": "'


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Holds the writer lock of a folder; the kernel releases it however the process ends. Readers need no lock.

    Temporary files that killed writers left in the folder itself are deleted.

    Raises:
        LockedError: Another process holds it; the message names host, process and start.
        DamagedError: Something other than a lock that gramcli wrote stands in its place.
        ResourceError: There is no space or no permission for it, or the file system has no locks.
    """
    durable_files.make_folder(folder)
    path = folder / "lock"
    try:
        descriptor = _open(path, os.O_CREAT)
    except OSError as error:
        raise durable_files.resource_error(path, error) from None
    try:
        _take(folder, descriptor)
        holder = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        try:
            _require_ours(path, descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        except OSError as error:
            raise durable_files.resource_error(path, error) from None
        durable_files.sweep(folder, below=folder)
        yield
    finally:
        opener.close(descriptor)


def require_free(folder: Path) -> None:
    """Raises a LockedError if another process holds the lock of a folder; for a check before long preparations.

    Raises:
        DamagedError: Something other than a lock that gramcli wrote stands in its place.
    """
    try:
        descriptor = _open(folder / "lock", 0)
    except OSError:
        return
    try:
        _take(folder, descriptor)
        _require_ours(folder / "lock", descriptor)
    finally:
        opener.close(descriptor)


def _open(path: Path, create: int) -> int:
    with opener.parent(path, path.parent) as (folder, name):
        opener.require_regular(path, folder, path.parent)
        return os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | create, 0o644, dir_fd=folder)


def _require_ours(path: Path, descriptor: int) -> None:
    """Raises a DamagedError unless a lock file can be written without the loss of anything else."""
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        raise opener.wrong_kind(path, about.st_mode, path.parent)
    if about.st_nlink > 1:
        raise DamagedError(
            f"{shown(path)}: is damaged (the file has a second name, perhaps outside); move that away and run the "
            "same command again"
        )
    if about.st_size > _LONGEST or not _is_ours(os.pread(descriptor, _LONGEST, 0)):
        raise DamagedError(
            f"{shown(path)}: is damaged (it holds something other than a lock of gramcli); move that away and run the "
            "same command again"
        )


def _is_ours(content: bytes) -> bool:
    """Tells whether gramcli wrote the content. After a power cut it may be cut short, or zeros at its end."""
    text = content.rstrip(b"\0")
    try:
        return not text or set(json_values.parse(text)) == {"host", "process", "since"}
    except (ValueError, TypeError):
        return text.startswith(_BEGIN) or _BEGIN.startswith(text)


def _take(folder: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LockedError(f"{shown(folder)}: in use by {_holder(descriptor)}; wait until it has finished") from None
    except OSError as error:  # a network file system without locks must not look like one that is free
        path = folder / "lock"
        raise ResourceError(f"{shown(path)}: cannot be locked: {error.strerror}; use a local --cache") from None


def _holder(descriptor: int) -> str:
    try:
        holder = json_values.parse(os.pread(descriptor, _LONGEST, 0))
        return shown(f"process {holder['process']} on {holder['host']} since {holder['since']}")
    except (ValueError, KeyError, TypeError):
        return "another process"
