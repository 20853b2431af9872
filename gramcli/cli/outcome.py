"""Ends a command that has processed many files, some of which may have failed."""

from __future__ import annotations

from collections.abc import Mapping

import typer

from gramcli.cli import render
from gramcli.errors import Exit, NoInputError
from gramcli.text import shown


def settle(failed: Mapping[str, str], files: int, *, usable: bool) -> None:
    """Ends the command if files failed, with one line that names the first of them.

    Args:
        failed: Reasons by path.
        files: Number of all files.
        usable: Whether any file could be used.

    Raises:
        NoInputError: No file could be used.
        typer.Exit: Some files could be used; the exit code says so.
    """
    if not failed:
        return
    path, reason = next(iter(failed.items()))
    text = f"{len(failed)} of {files} files failed; the first, {shown(path)}: {reason}"
    if not usable:
        raise NoInputError(text)
    render.print_stderr("error", text)
    raise typer.Exit(Exit.PARTIAL)
