"""Refuses to begin a cache in a folder with files of other programs that have the names of files of a cache.

A settings file of somebody else may choose the folder of the cache, and the commands replace these files. A cache that
has been begun has a folder ``views``; what is in it besides was written by gramcli, or came with the cache.
"""

from __future__ import annotations

import os
from pathlib import Path

from gramcli.cache import inventory, sealed
from gramcli.errors import ResourceError, UsageError
from gramcli.system import opener
from gramcli.text import shown

TEXTS = {"clips.csv": b"# gramcli clips ", "failures.csv": b"# gramcli failures "}
"""How the first line of a text file of a cache begins."""
SEALED = ("finished", "statistics", "decision")
"""Kinds of the sealed files of a cache, which are named after them."""


def require_none(cache: Path) -> None:
    """Checks a folder in which a cache is to be begun; does nothing if it was begun before.

    Raises:
        UsageError: A file has the name of a file of a cache, and is not of gramcli.
        DamagedError: Something that is no file has such a name.
        ResourceError: A file cannot be read.
    """
    if inventory.holds(cache, cache / "views"):
        return
    for name, head in TEXTS.items():
        if inventory.holds(cache, cache / name) and _head(cache / name, len(head), cache) != head:
            raise _refusal(cache / name)
    for kind in SEALED:
        path = cache / f"{kind}.safetensors"
        if inventory.holds(cache, path) and sealed.kind_of(path) != kind:
            raise _refusal(path)


def _head(path: Path, length: int, cache: Path) -> bytes:
    try:
        with os.fdopen(opener.open_file(path, cache), "rb") as file:
            return file.read(length)
    except OSError as error:
        raise ResourceError(f"{shown(path)}: cannot be read: {error.strerror}") from None


def _refusal(path: Path) -> UsageError:
    return UsageError(
        f"{shown(path)}: is no file of gramcli, and would be replaced; move it away, or name another folder with "
        "--cache"
    )
