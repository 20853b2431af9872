"""Rebuilds the network that a cache was extracted with."""

from __future__ import annotations

import os
from pathlib import Path

from gramcli.cache.view import View
from gramcli.errors import ArtefactError
from gramcli.network import checkpoint
from gramcli.network.code_trust import CodeOrigin
from gramcli.network.prepare import PreparedNetwork, StoredNetwork, prepare
from gramcli.settings.configure import configure
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.system import user_folders
from gramcli.text import shown


def require_network(clean: View) -> None:
    """Raises an ArtefactError if the descriptors were computed elsewhere, so that their network is not known.

    Args:
        clean: The clean view of the cache.
    """
    if "settings" not in clean.recorded:
        raise ArtefactError(
            f"{shown(clean.folder.parents[1])}: its descriptors were computed elsewhere (by gramcli.cache.write), so "
            "there is no network to run or to export"
        )


def code_origin(clean: View) -> CodeOrigin:
    """Returns what a cache says of the code of its network.

    The folder that it records counts only if the cache lies in it and the user's home does not: a cache from somebody
    else may record any folder.

    Args:
        clean: The clean view of the cache.
    """
    cache, recorded = clean.folder.parents[1], clean.recorded.get("folder")
    folder = None
    if isinstance(recorded, str) and recorded.startswith(os.sep) and "\0" not in recorded:
        real, home = Path(os.path.realpath(recorded)), user_folders.home()
        if Path(os.path.realpath(cache)).is_relative_to(real) and not (home and home.is_relative_to(real)):
            folder = Path(recorded)
    return CodeOrigin(shown(clean.folder / "view.json"), folder)


def reopen_network(clean: View, context: RunContext) -> tuple[Settings, PreparedNetwork]:
    """Returns the settings of the extract, and the network that they name.

    Args:
        clean: The clean view of the cache.
        context: Its settings may change how the network runs, not what it computes.

    Raises:
        ArtefactError: The descriptors were computed elsewhere, or the network has changed since.
        ResourceError: The device is missing.
        UnsafeError: The cache names code or arguments that the user has not named or trusted.
    """
    require_network(clean)
    origin = code_origin(clean)
    settings = configure(
        context, earlier=clean.recorded["settings"], origin=origin.name, metadata=checkpoint.settings_of_file
    )
    return settings, prepare(settings, clean.outputs, context, StoredNetwork(clean.identity, origin=origin))
