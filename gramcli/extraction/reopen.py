"""Rebuilds the network that a cache was extracted with."""

from __future__ import annotations

from pathlib import Path

from gramcli.cache.view import View
from gramcli.errors import ArtefactError
from gramcli.network import checkpoint
from gramcli.network.prepare import PreparedNetwork, StoredNetwork, prepare
from gramcli.settings.configure import configure
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
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


def reopen_network(clean: View, context: RunContext) -> tuple[Settings, PreparedNetwork]:
    """Returns the settings of the extract, and the network that they name.

    Args:
        clean: The clean view of the cache.
        context: Its settings may change how the network runs, not what it computes.

    Raises:
        ArtefactError: The descriptors were computed elsewhere, or the network has changed since.
        ResourceError: The device is missing.
    """
    require_network(clean)
    settings = configure(
        context,
        earlier=clean.recorded["settings"],
        origin=shown(clean.folder / "view.json"),
        metadata=checkpoint.as_source,
    )
    return settings, prepare(settings, clean.outputs, Path(clean.recorded["folder"]), StoredNetwork(clean.identity))
