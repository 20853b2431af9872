"""The network that a cache was extracted with, built once more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gramcli.cache.view import View
from gramcli.errors import ArtefactError
from gramcli.network.prepare import PreparedNetwork, StoredNetwork, prepare
from gramcli.settings.configure import configure
from gramcli.settings.schema import Settings
from gramcli.text import shown


def reopen_network(
    clean: View, flags: Mapping[str, Mapping[str, Any]] | None, config: Path | None
) -> tuple[Settings, PreparedNetwork]:
    """Returns the settings of the extract, and the network they name.

    Args:
        clean: The clean view of the cache.
        flags: Settings over those of the extract, by section and key; only how to run may differ.
        config: A settings file.

    Raises:
        ArtefactError: The descriptors were computed elsewhere, or the network is no longer what it was.
        ResourceError: The device is missing.
    """
    if "settings" not in clean.recorded:
        raise ArtefactError(f"{shown(clean.folder)}: its descriptors were computed elsewhere; no network to run")
    settings = configure(flags or {}, config=config, remembered=clean.recorded["settings"])
    return settings, prepare(settings, clean.outputs, Path(clean.recorded["folder"]), StoredNetwork(clean.identity))
