"""``gramcli calibrate``: its options and output; `gramcli.calibration.calibrate` does the work."""

from __future__ import annotations

from typing import Annotated

import typer

from gramcli.cli.options import Given, Panel, example, takes
from gramcli.cli.render import Bar, print_stderr

Preset = Annotated[
    str | None, typer.Option("--preset", metavar="paper", help="paper: use the rule exactly as published.")
]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("calibrate", epilog=example("gramcli calibrate"), rich_help_panel=Panel.BUILD)(calibrate_cmd)


@takes("calibrate", "cache.dir")
def calibrate_cmd(given: Given, preset: Preset = None) -> None:
    """Learn each class's bounds from the training clips.

    The validation clips then show how far clips of a known class usually lie outside these bounds. Run gramcli extract
    first, and gramcli select-layers afterwards.
    """
    from gramcli.calibration.calibrate import calibrate
    from gramcli.settings.configure import configure

    with Bar(quiet=given.quiet) as bar:
        settings = configure(given.context(bar), preset=preset)
        given.note_settings(bar, settings)
        statistics = calibrate(given.cache, settings.calibrate, progress=bar)
    if not given.quiet:
        print_stderr(
            "done",
            f"{len(statistics.layers)} layers calibrated, epsilon {statistics.epsilon:g}: {statistics.file.path}",
        )
