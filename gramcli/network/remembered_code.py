"""Remembers, in the user's configuration folder, which code is trusted for good.

An entry is a network's name, its arguments, and the SHA-256 of all ``.py`` files of its project that ran: with other
arguments or a changed file it does not hold. The file is ``gramcli/trusted-code.json`` under ``XDG_CONFIG_HOME``, which
is ``~/.config`` unless it is set. It is plain JSON; to trust nothing any more, delete it. A link in its place, and a
file of another user, count as unreadable: nothing in it is trusted, and it is not replaced.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gramcli import json_values
from gramcli.errors import ArtefactError, ResourceError
from gramcli.identity import canonical
from gramcli.system import durable_files, opener, user_folders
from gramcli.text import shown

FORMAT = 1


def path() -> Path | None:
    """Returns where the file is, or would be; None for a user without a home."""
    folder = user_folders.configuration()
    return None if folder is None else folder / "gramcli" / "trusted-code.json"


def files(name: str, arguments: Mapping[str, Any], warn: Callable[[str], None]) -> dict[str, str] | None:
    """Returns the files of a network that is trusted with these arguments; None if it is not.

    Args:
        name: Name of the network.
        arguments: All arguments of its constructor, besides the number of outputs.
        warn: Called with one line if the list cannot be read, so that nothing in it is trusted.

    Returns:
        SHA-256 by path: relative to the folder of the project, absolute for what is installed. None for a network of
        timm, which has no files here.
    """
    try:
        entries = _entries()
    except ArtefactError as error:
        warn(f"{error}, so nothing in it is trusted; correct it")
        return None
    for entry in entries:
        if entry["network"] == name and canonical(entry["args"]) == canonical(dict(arguments)):
            return dict(entry["files"])
    return None


def remember(name: str, arguments: Mapping[str, Any], files: Mapping[str, str]) -> Path:
    """Adds a network, in place of an earlier entry of its name and arguments.

    Args:
        name: As in `files`.
        arguments: As in `files`.
        files: SHA-256 by path, as `files` returns them.

    Returns:
        The file.

    Raises:
        ArtefactError: There is a file that cannot be read, or that a newer gramcli wrote; it is not replaced.
        ResourceError: The file cannot be written.
    """
    where = path()
    if where is None:
        raise ResourceError("the choice cannot be remembered: there is no home folder; set XDG_CONFIG_HOME to a folder")
    same = name, canonical(dict(arguments))
    try:
        kept = [entry for entry in _entries() if (entry["network"], canonical(entry["args"])) != same]
    except ArtefactError as error:
        raise ArtefactError(
            f"{error}, so nothing is added to it; correct it, or move it away, and run the same command again"
        ) from None
    entry = {"network": name, "args": dict(arguments), "files": dict(sorted(files.items()))}
    content = {"format": FORMAT, "trusted": [*kept, entry]}
    durable_files.make_folder(where.parent)
    durable_files.write(where, json.dumps(content, indent=1).encode() + b"\n")
    return where


def _entries() -> list[dict[str, Any]]:
    """Returns the entries of the file, none if there is no file.

    Raises:
        ArtefactError: It cannot be read; the message says why, and not what to do.
    """
    where = path()
    if where is None:
        return []
    try:
        descriptor = os.open(where, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise ArtefactError(f"{shown(where)}: is {opener.kind(about.st_mode)} and not a file")
            if about.st_uid != os.geteuid():
                raise ArtefactError(f"{shown(where)}: belongs to another user")
            content = json_values.parse(file.read())
    except FileNotFoundError:
        return []
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ArtefactError(f"{shown(where)}: is a link, which is not followed") from None
        raise ArtefactError(f"{shown(where)}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise ArtefactError(f"{shown(where)}: cannot be read as JSON") from None
    version = content.get("format") if isinstance(content, dict) else None
    if version != FORMAT and isinstance(version, int):
        raise ArtefactError(f"{shown(where)}: has format {version}, and this gramcli reads format {FORMAT}")
    entries = content.get("trusted") if version == FORMAT else None
    if not isinstance(entries, list) or not all(_is_entry(one) for one in entries):
        raise ArtefactError(f"{shown(where)}: is no list of trusted code as gramcli writes it")
    return entries


def _is_entry(entry: Any) -> bool:
    kinds = {"network": str, "args": dict, "files": dict}
    return isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in kinds.items())
