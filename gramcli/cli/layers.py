"""``gramcli layers``: its options and output; `gramcli.network.inventory` does the work."""

from __future__ import annotations

from typing import Annotated

import typer

from gramcli.cli import render
from gramcli.cli.options import AsJson, FormatOption, Given, Panel, example, takes
from gramcli.cli.render import Bar


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("layers", epilog=example("gramcli layers resnet18"), rich_help_panel=Panel.START)(layers_cmd)


@takes("segment", "frontend", "network.weights", "network.classes", "network.layers", "network.channel_dims",
       "network.args", builds_network=True)  # fmt: skip
def layers_cmd(
    given: Given,
    network: Annotated[
        str | None, typer.Argument(help="Name of a timm network, or package.module:factory of your own.")
    ] = None,
    format: FormatOption = None,
    as_json: AsJson = False,
) -> None:
    """List the layers of a network that extract can record."""
    from gramcli.network import checkpoint
    from gramcli.network.inventory import list_layers
    from gramcli.settings.configure import configure

    given.put("network", "name", network)
    with Bar(quiet=given.quiet) as bar:
        context = given.context(bar)
        settings = configure(context, metadata=checkpoint.settings_of_file, override_metadata=True)
        given.note_settings(bar, settings)
        found = list_layers(settings, context)
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
    how = render.output_format(format, as_json)
    render.rows(columns, rows, how, about={"network": found.architecture, "not_captured": missed})
    if not given.quiet:
        for one in missed:
            render.print_stderr("not recorded", f"{one['name']} ({one['type']}): {one['reason']}")
        total = sum(layer.bytes for layer in found.recorded)
        channels = sum(layer.channels for layer in found.recorded)
        render.print_stderr(
            "done", f"{len(found.recorded)} layers, {channels} channels, {render.size(total)} a clip in the cache"
        )
