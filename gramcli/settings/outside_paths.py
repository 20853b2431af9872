"""Refuses paths that lead out of a project's folder, where only a file of the project names them.

A settings file that came with a folder, or a cache, must not make gramcli read or write elsewhere. What the user names,
by an option, an environment variable or from Python, is not refused, nor is what a settings file names that the user
has named with ``--config``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gramcli.errors import UnsafeError
from gramcli.settings.schema import fields
from gramcli.settings.sources import Source
from gramcli.text import shown


def require_inside(source: Source, folder: Path, user: Sequence[Source], advice: str) -> None:
    """Checks the paths in settings of a file, and that it does not allow audio files outside by itself.

    Args:
        source: Settings of the file. Their paths are absolute and hold no ``..``.
        folder: Folder of the project, likewise.
        user: Settings that the user has named, which win over those of the file.
        advice: What to do about a path that is refused, besides to name it.

    Raises:
        UnsafeError: A path lies outside the folder, or ``data.allow_outside`` is set.
    """
    for section, key in fields():
        value = source.values.get(section, {}).get(key.name)
        if value is None or any(key.name in one.values.get(section, {}) for one in user):
            continue
        flag = f"--{(key.metadata['flag'] or key.name).replace('_', '-')}"
        option = "as the argument" if key.name == "manifest" else flag
        named = f"name it yourself ({option}, or GRAMCLI_{section.upper()}_{key.name.upper()}){advice}"
        if key.metadata["kind"] == "path" and not Path(value).is_relative_to(folder):
            raise UnsafeError(
                f"{source.origin}: {section}.{key.name} = {shown(value)} lies outside {shown(folder)}: {named}"
            )
        if (section, key.name) == ("data", "allow_outside") and value:
            raise UnsafeError(f"{source.origin}: data.allow_outside counts only as your own word: {named}")
