"""The settings file of a run: finds it, and reads it once, so that all decisions of a command rest on the same text."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from gramcli.errors import NoInputError, UsageError
from gramcli.settings import sources
from gramcli.settings.sources import Source
from gramcli.system import opener
from gramcli.text import shown

NAME = "gramcli.toml"
LONGEST_FILE = 1 << 22
"""Bytes of a settings file; 50,000 class labels have about 1 MiB."""
MOST_DOTS = 64
"""Dots in a key; no key of gramcli has more than two."""


class SettingsFile:
    """The settings file that the user named, or ``gramcli.toml`` of the working folder, where there is one.

    Args:
        named: Path that the user named; None to look for ``gramcli.toml``, which may have come with the folder.
    """

    def __init__(self, named: Path | None = None) -> None:
        self.named = named
        self.path = Path(NAME) if named is None else named
        self._read: list[Source] | None = None

    @property
    def folder(self) -> Path:
        """The folder that holds it, as an absolute path without ``..``."""
        return Path(os.path.normpath(self.path.parent.absolute()))

    def sources(self) -> list[Source]:
        """Returns its settings, and nothing if there is no file; it is read at the first call.

        Raises:
            NoInputError, UsageError: As in `read`.
        """
        if self._read is None:
            self._read = [read(self.path)] if self.named is not None or self.path.is_file() else []
        return self._read


def read(path: Path) -> Source:
    """Reads a ``gramcli.toml``; relative paths in it are relative to its folder.

    Raises:
        NoInputError: The file cannot be read, or is no regular file.
        UsageError: It is not TOML, or holds a setting that does not exist.
    """
    try:
        with os.fdopen(opener.open_file(path), "rb") as file:
            content = file.read(LONGEST_FILE + 1)
        if len(content) > LONGEST_FILE:
            raise UsageError(
                f"{shown(path)}: is larger than {LONGEST_FILE} bytes, the most that a settings file may have; shorten "
                "it, or name another one with --config"
            )
        text = content.decode()
        if any(line.partition("=")[0].count(".") > MOST_DOTS for line in text.splitlines()):
            raise ValueError(f"a key of more than {MOST_DOTS} parts")  # which the parser would take hours for
        values = tomllib.loads(text)
    except OSError as error:
        raise NoInputError(f"{shown(path)}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is no TOMLDecodeError
        raise UsageError(f"{shown(path)}: is not TOML: {shown(error)}") from None
    return sources.source(values, shown(path), path.parent.absolute())
