"""Reading what this package wrote: a regular file under its own name, and nothing else that may stand there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gramcli.errors import DamagedError, ResourceError
from gramcli.text import shown


def read(path: Path) -> bytes | None:
    """Reads a file that this package wrote; None if there is nothing of that name.

    Raises:
        DamagedError: A folder, a link, a pipe or a device stands there.
        ResourceError: It cannot be read.
    """
    try:
        require_regular(path)
        # should it be exchanged just now: no link is followed, no pipe waited for
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ResourceError(f"{shown(path)}: cannot be read: {error.strerror}") from None


def require_regular(path: Path) -> None:
    """Raises a DamagedError if something is there and is no file of its own, as all that this package writes is."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a link" if stat.S_ISLNK(mode) else "no file"
        raise DamagedError(
            f"{shown(path)}: is damaged ({kind} stands in its place); move that away and run the same command again"
        )
