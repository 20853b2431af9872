"""Finds the folder of the cache, and refuses one that only a settings file of somebody else may have chosen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gramcli.errors import UnsafeError
from gramcli.settings import sources
from gramcli.settings.configure import explicit
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.text import shown


def cache_folder(context: RunContext, settings: Settings | Mapping[str, Mapping[str, Any]] | None = None) -> Path:
    """Returns the folder of the cache; neither checkpoint nor earlier extract can name it.

    Args:
        context: As for `gramcli.settings.configure.configure`.
        settings: As for `gramcli.settings.configure.complete`; complete settings are taken as they are.

    Raises:
        UsageError: Unknown or invalid settings.
        UnsafeError: The user has not named it, and it is a link or lies behind one, or outside the folder of a settings
            file that the user has not named either: a project of somebody else could send what is written anywhere.
    """
    if isinstance(settings, Settings):
        return Path(settings.cache.dir)
    found = explicit(context, settings)
    folder = Path(sources.resolve(*found).cache.dir)
    stated = [one for one in found if "dir" in one.values.get("cache", {})]
    if any(one.by_user for one in stated):
        return folder
    project = context.file.folder
    for path in (folder, *folder.parents):
        if path.absolute() != project and path.absolute().is_relative_to(project):
            _require_no_link(path)
    _require_no_link(folder)
    return folder


def _require_no_link(path: Path) -> None:
    if path.is_symlink():
        raise UnsafeError(
            f"{shown(path)}: is a link; if the cache is to lie where it leads, name it with --cache (or "
            "GRAMCLI_CACHE_DIR)"
        )
