"""Reads files of a cache, and refuses links, folders, pipes and devices under their names."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gramcli.errors import DamagedError, ResourceError
from gramcli.text import shown


def read(path: Path) -> bytes | None:
    """Reads a regular file; None if there is nothing under this name.

    Raises:
        DamagedError: There is a folder, a link, a pipe or a device instead of a file.
        ResourceError: It cannot be read.
    """
    try:
        require_regular(path)
        # if another program replaces the file now, a link is still not followed, and a pipe does not block
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ResourceError(f"{shown(path)}: cannot be read: {error.strerror}") from None


def require_regular(path: Path) -> None:
    """Raises a DamagedError if there is something under this name, and it is not a regular file."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a link" if stat.S_ISLNK(mode) else "a pipe or device"
        raise DamagedError(
            f"{shown(path)}: is damaged ({kind} stands in its place); move that away and run the same command again"
        )
