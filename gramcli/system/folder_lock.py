"""The writer lock of a folder: one process at a time changes the files in it.

The lock is held on the file ``lock`` in the folder, which also says who holds it. All calls that change a disk go
through this module's `os` and `fcntl`, which tests replace to make any one fail.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from gramcli import json_values
from gramcli.errors import LockedError, ResourceError
from gramcli.system import durable_files
from gramcli.text import shown


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Holds the writer lock of a folder; the kernel releases it however the process ends. Readers need no lock.

    Temporary files that killed writers left in the folder itself are deleted.

    Raises:
        LockedError: Another process holds it; the message names host, process and start.
        ResourceError: There is no space or no permission for it, or the file system has no locks.
    """
    durable_files.make_folder(folder)
    path = folder / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise durable_files.resource_error(path, error) from None
    try:
        _take(folder, descriptor)
        holder = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        except OSError as error:
            raise durable_files.resource_error(path, error) from None
        durable_files.sweep(folder)
        yield
    finally:
        durable_files.close(descriptor)


def require_free(folder: Path) -> None:
    """Raises a LockedError if another process holds the lock of a folder; for a check before long preparations."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return
    try:
        _take(folder, descriptor)
    finally:
        durable_files.close(descriptor)


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
        holder = json_values.parse(os.pread(descriptor, 1000, 0))
        return shown(f"process {holder['process']} on {holder['host']} since {holder['since']}")
    except (ValueError, KeyError, TypeError):
        return "another process"
