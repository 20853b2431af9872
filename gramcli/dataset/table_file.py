"""Reads the text of a table, once it is clear that it is one: a regular file of moderate size, in UTF-8."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gramcli.errors import NoInputError, UsageError
from gramcli.text import shown

LARGEST = 1 << 30
"""Most bytes of a table; two million clips take about 300 MiB."""


def read(path: Path) -> str:
    """Returns the text of a table, without a byte order mark.

    Raises:
        NoInputError: It cannot be read, or is no regular file.
        UsageError: It is too large, is not UTF-8, or holds a zero byte.
    """
    name = shown(path.name)
    try:
        with open(path, "rb", opener=_open) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise NoInputError(f"{shown(path)}: is not a regular file; name a table")
            if about.st_size > LARGEST:
                raise UsageError(
                    f"{shown(path)}: has {about.st_size >> 20} MiB, and a table has at most {LARGEST >> 20}; split it"
                )
            # a file of which parts were never written reads as zeros, mostly at its end
            if about.st_size and os.pread(file.fileno(), 1, about.st_size - 1) == b"\0":
                raise UsageError(f"{name}: ends with a NUL character, so it is no table")
            data = file.read(LARGEST)
    except OSError as error:
        raise NoInputError(f"{shown(path)}: cannot be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{name}:{line}: is not UTF-8 text; save the table as UTF-8") from None
    if "\0" in text:
        raise UsageError(f"{name}:{text.count(chr(10), 0, text.index(chr(0))) + 1}: holds a NUL character")
    return text


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # so that opening a pipe does not block
