"""Remembers, in the user's configuration folder, which code he trusts for good.

An entry is a factory's name, its arguments, and the SHA-256 of all files of its project that ran: with other arguments
or a changed file it does not hold. The file is ``gramcli/trusted-code.json`` under ``XDG_CONFIG_HOME``, which is
``~/.config`` unless it is set. It is plain JSON; to trust nothing any more, delete it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gramcli.errors import ResourceError
from gramcli.identity import canonical
from gramcli.system import durable_files, user_folders

FORMAT = 1


def path() -> Path | None:
    """Returns where the file is, or would be; None for a user without a home."""
    folder = user_folders.configuration()
    return None if folder is None else folder / "gramcli" / "trusted-code.json"


def files(name: str, arguments: Mapping[str, Any]) -> dict[str, str] | None:
    """Returns the files of a network that is trusted with these arguments; None if it is not.

    Returns:
        SHA-256 by path under the project's folder; none for a network of timm.
    """
    for entry in _entries():
        if entry["network"] == name and canonical(entry["args"]) == canonical(dict(arguments)):
            return dict(entry["files"])
    return None


def remember(name: str, arguments: Mapping[str, Any], files: Mapping[str, str]) -> Path:
    """Adds a network, in place of an earlier entry of its name and arguments.

    Args:
        name: Name of the network.
        arguments: All arguments of its constructor, besides the number of outputs.
        files: SHA-256 by path under the project's folder.

    Returns:
        The file.

    Raises:
        ResourceError: The file cannot be written.
    """
    where = path()
    if where is None:
        raise ResourceError("the choice cannot be remembered: there is no home folder; set XDG_CONFIG_HOME to a folder")
    same = name, canonical(dict(arguments))
    kept = [entry for entry in _entries() if (entry["network"], canonical(entry["args"])) != same]
    entry = {"network": name, "args": dict(arguments), "files": dict(sorted(files.items()))}
    content = {"format": FORMAT, "trusted": [*kept, entry]}
    durable_files.make_folder(where.parent)
    durable_files.write(where, json.dumps(content, indent=1).encode() + b"\n")
    return where


def _entries() -> list[dict[str, Any]]:
    """Returns the entries of the file; none if it is missing, no regular file, another user's, or damaged."""
    where = path()
    try:
        if where is None:
            return []
        descriptor = os.open(where, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
                return []
            content = json.loads(file.read())
        if content["format"] != FORMAT:
            return []
        return [one for one in content["trusted"] if _is_entry(one)]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _is_entry(entry: Any) -> bool:
    kinds = {"network": str, "args": dict, "files": dict}
    return isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in kinds.items())
