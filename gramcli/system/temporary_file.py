"""Temporary files, which become other files when they are whole, and which a killed process can leave behind.

A temporary file is locked by its writer for as long as that runs, so that the next writer can tell one that was left
behind from one that is still being written. All functions work on names in an opened folder (`gramcli.system.opener`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import uuid
from collections.abc import Iterator

from gramcli.system import opener

_NAME = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp", re.DOTALL)


def is_temporary(name: str) -> bool:
    """Tells whether a name is one that `create` makes up."""
    return _NAME.fullmatch(name) is not None


def longest_name(folder: int) -> int:
    """Returns how many bytes a name in a folder can have."""
    try:
        return os.fpathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):
        return 255


@contextlib.contextmanager
def create(folder: int, name: str) -> Iterator[tuple[str, int]]:
    """Yields name and descriptor of a new, locked file in a folder; it is deleted if the block ends with an error."""
    temporary, descriptor, unfinished = "", None, False
    try:
        while descriptor is None:
            temporary = _made_up(folder, name)
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666, dir_fd=folder)
            unfinished = True
            # A sweep that came between open and lock has removed the file, or is about to. The name was made up for
            # this file alone, so as long as it exists it leads to this file.
            if not _lock_own(descriptor) or not opener.exists(folder, temporary):
                opener.close(descriptor)
                descriptor = None
        yield temporary, descriptor
        unfinished = False
    finally:
        if unfinished:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
        if descriptor is not None:
            opener.close(descriptor)


def _made_up(folder: int, name: str) -> str:
    """Makes up a name that `is_temporary` recognises. A long `name` is cut in it, so that it is not too long."""
    mark = f".{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    longest = longest_name(folder) - len(mark) - 1
    while len(os.fsencode(name)) > longest:
        name = name[:-1]
    return f".{name}{mark}"


def _lock_own(descriptor: int) -> bool:
    """Locks a new temporary file against `remove_dead`; returns False where a sweep has it locked.

    On a file system without locks the file stays unlocked, and no sweep can lock it either.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def remove_dead(folder: int, name: str) -> None:
    """Deletes a temporary file unless its writer still runs, which then holds a lock on it.

    Links, folders, pipes and devices stay: they are no temporary files, whatever their name.
    """
    if not stat.S_ISREG(os.lstat(name, dir_fd=folder).st_mode):
        return
    descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=folder)
    except BlockingIOError:
        pass
    finally:
        opener.close(descriptor)
