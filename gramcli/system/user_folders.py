"""Finds the user's home and the folder of the user's configuration."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path | None:
    """Returns the user's home, with all links resolved; None for a user without one."""
    try:
        found = Path.home()
    except RuntimeError:
        return None
    return Path(os.path.realpath(found)) if found.is_absolute() else None


def configuration() -> Path | None:
    """Returns ``XDG_CONFIG_HOME`` if it is an absolute path, else ``~/.config``; None for a user without a home."""
    stated = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    if stated.is_absolute():
        return stated
    found = home()
    return None if found is None else found / ".config"
