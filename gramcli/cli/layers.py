"""``gramcli layers``."""

from __future__ import annotations

from typing import Annotated

import typer

from gramcli.cli import render
from gramcli.cli.options import Given, takes
from gramcli.cli.render import Bar, Format


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("layers")(layers_cmd)


@takes("segment", "frontend", "network.weights", "network.classes", "network.layers", "network.channel_dims",
       "network.args")  # fmt: skip
def layers_cmd(
    given: Given,
    network: Annotated[str | None, typer.Argument(help="timm name, or package.module:factory.")] = None,
    format: Annotated[Format | None, typer.Option("--format", help="How to print.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
) -> None:
    """List the activations of a network that can be recorded, and those that cannot."""
    from gramcli.network.inventory import list_layers
    from gramcli.settings.configure import configure, home

    given.put("network", "name", network)
    settings = configure(given.flags, config=given.config, override_metadata=True)
    with Bar(quiet=given.quiet) as bar:
        given.tell(bar, settings)
        found = list_layers(settings, folder=home(given.config))
    rows = [
        {
            "layer": layer.name,
            "call": layer.call,
            "type": layer.kind,
            "channels": layer.channels,
            "positions": layer.positions,
            "bytes": layer.bytes,
            "recorded": layer.name in found.chosen,
        }
        for layer in found.survey.layers
    ]
    missed = [{"name": name, "type": kind, "reason": reason} for name, kind, reason in found.survey.missed]
    columns = ["layer", "call", "type", "channels", "positions", "bytes", "recorded"]
    how = render.chosen(format, as_json)
    render.rows(columns, rows, how, about={"network": found.architecture, "not_captured": missed})
    if not given.quiet:
        for one in missed:
            render.complain("not captured", f"{one['name']} ({one['type']}): {one['reason']}")
        total = sum(layer.bytes for layer in found.recorded)
        channels = sum(layer.channels for layer in found.recorded)
        render.complain(
            "done", f"{len(found.recorded)} layers, {channels} channels, {render.size(total)} a clip in the cache"
        )
