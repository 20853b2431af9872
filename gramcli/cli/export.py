"""``gramcli export``: its options and output; `gramcli.inference.bundle` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gramcli.cli import render
from gramcli.cli.options import Given, Panel, example, takes
from gramcli.cli.render import Bar


def register(app: typer.Typer) -> None:
    """Adds the command."""
    examples = example("gramcli export model.safetensors", "gramcli classify --model model.safetensors new.wav")
    app.command("export", epilog=examples, rich_help_panel=Panel.USE)(export_cmd)


@takes("network.name", "network.weights", "cache.dir", builds_network=True)
def export_cmd(
    given: Given, file: Annotated[Path, typer.Argument(metavar="MODEL.safetensors", help="The file to write.")]
) -> None:
    """Pack network, statistics and rule into one file for classify --model.

    The file replaces the cache and the checkpoint, so it can be copied to another machine. The code of a network of
    your own is not in it.
    """
    from gramcli.cache.view import View
    from gramcli.extraction.reopen import require_network
    from gramcli.inference.bundle import export
    from gramcli.network import checkpoint
    from gramcli.settings.configure import configure

    view = View.open(given.cache)
    require_network(view)
    given.settings.setdefault("run", {"device": "cpu"})
    with Bar(quiet=given.quiet) as bar:
        context = given.context(bar)
        settings = configure(context, earlier=view.recorded["settings"], metadata=checkpoint.settings_of_file)
        size = export(settings, given.cache, file, context)
    if not given.quiet:
        render.print_stderr("done", f"{file}: {render.size(size)}")
