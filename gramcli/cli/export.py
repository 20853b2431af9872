"""``gramcli export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gramcli.cli import render
from gramcli.cli.options import Given, takes


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("export")(export_cmd)


@takes("network.weights", "cache.dir")
def export_cmd(
    given: Given, file: Annotated[Path, typer.Argument(metavar="MODEL.safetensors", help="The file to write.")]
) -> None:
    """Pack weights, statistics and settings into one file for gramcli classify --model."""
    from gramcli.cache.view import View
    from gramcli.inference.bundle import export
    from gramcli.settings.configure import configure

    remembered = View.open(given.cache).recorded["settings"]
    settings = configure({"run": {"device": "cpu"}, **given.flags}, config=given.config, remembered=remembered)
    size = export(settings, given.cache, file)
    if not given.quiet:
        render.complain("done", f"{file}: {render.size(size)}")
