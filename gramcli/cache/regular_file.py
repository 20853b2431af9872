"""Reads whole files of a cache: no link is followed, and a file far larger than gramcli writes is not read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from gramcli.cache.advice import advice
from gramcli.errors import DamagedError, ResourceError
from gramcli.system import opener
from gramcli.text import shown

LARGEST = {"view": 2**26, "clips": 2**32, "failures": 2**32, "shard": 2**32}
"""Most bytes of a file, by kind."""
_HEAD = 1024
"""Bytes at the start of a file from which its size can be told."""


def read(path: Path, kind: str, below: Path, stated_size: Callable[[bytes], int] | None = None) -> bytes | None:
    """Reads a regular file; None if there is nothing under this name.

    Args:
        path: The file.
        kind: One of `LARGEST`.
        below: Folder of the cache.
        stated_size: Returns from the first bytes of a file how long it is. None for text.

    Raises:
        DamagedError: There is a folder, a link, a pipe or a device instead of a file, or the file is far too large.
        ResourceError: It cannot be read.
    """
    try:
        descriptor = opener.open_file(path, below)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            size, most = os.fstat(descriptor).st_size, LARGEST[kind]
            if stated_size is not None:
                most = min(most, stated_size(os.pread(descriptor, _HEAD, 0)))
            if size > most:
                raise DamagedError(
                    f"{shown(path)}: is damaged (it has {size} bytes, more than gramcli has written); {advice(kind)}"
                )
            if stated_size is None and _has_hole(descriptor, size):
                raise DamagedError(f"{shown(path)}: is damaged (parts of it were never written); {advice(kind)}")
            return file.readall()
    except (FileNotFoundError, NotADirectoryError):  # the second: the cache itself is no folder
        return None
    except OSError as error:
        raise ResourceError(f"{shown(path)}: cannot be read: {error.strerror}") from None


def _has_hole(descriptor: int, size: int) -> bool:
    """Tells whether a part of a file was never written. It reads as zero bytes, which a text does not have."""
    try:
        hole = os.lseek(descriptor, 0, os.SEEK_HOLE)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except (AttributeError, OSError):  # the system cannot tell
        return False
    return hole < size
