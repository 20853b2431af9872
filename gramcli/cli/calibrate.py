"""``gramcli calibrate``."""

from __future__ import annotations

from typing import Annotated

import typer

from gramcli.cli.options import Given, takes
from gramcli.cli.render import Bar, complain

Preset = Annotated[str | None, typer.Option("--preset", metavar="paper", help="The paper's rule as it stands: paper.")]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("calibrate")(calibrate_cmd)


@takes("calibrate", "cache.dir")
def calibrate_cmd(given: Given, preset: Preset = None) -> None:
    """Learn each class's bounds from training clips, and what is normal outside them from validation clips."""
    from gramcli.calibration.calibrate import calibrate
    from gramcli.settings.configure import configure

    settings = configure(given.flags, config=given.config, preset=preset, weights=False)
    with Bar(quiet=given.quiet) as bar:
        given.tell(bar, settings)
        statistics = calibrate(given.cache, settings.calibrate, progress=bar)
    if not given.quiet:
        complain("done", f"{len(statistics.layers)} layers, epsilon {statistics.epsilon:g}: {statistics.file.path}")
