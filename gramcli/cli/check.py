"""``gramcli check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gramcli.cli import render
from gramcli.cli.options import Given, takes
from gramcli.cli.outcome import settle
from gramcli.cli.render import Bar, Format


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("check")(check_cmd)


@takes("network.weights", "data.max_seconds", "data.allow_truncated", "run", "cache.dir")
def check_cmd(
    given: Given,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of recordings; they need no labels.")],
    model: Annotated[
        Path | None, typer.Option("--model", help="File made by gramcli export, in place of a cache.")
    ] = None,
    format: Annotated[Format | None, typer.Option("--format", help="How to print.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
) -> None:
    """Tell whether the statistics carry over to other recordings: how many of their windows are unknown."""
    from gramcli.inference.shift_check import COLUMNS, check_shift

    with Bar(quiet=given.quiet) as bar:
        found = check_shift(given.model(model), folder, flags=given.flags, config=given.config, progress=bar)
    how = render.chosen(format, as_json)
    places = [place.row() for place in found.places]
    if how is Format.table:
        stated = f"unknown windows, of which the threshold is set for {100 * found.threshold.false_reject:.3g}%"
        render.rows(_SEEN, (_seen(row, folder) for row in places), how, title=stated, shrink="folder")
    else:
        render.rows(COLUMNS, places, how, about=found.about())
    sentences = [("warning", one) for one in found.warnings] or [("verdict", found.verdict)]
    for kind, sentence in () if how is Format.json else sentences:
        if how is Format.table:
            render.say(f"{kind}: {sentence}")
        elif not given.quiet:
            render.complain(kind, sentence)
    settle(found.failed, found.files, usable=found.places[0].clips > 0)


_SEEN = ("folder", "clips", "windows", "unknown", "95 % interval", "failed", "finding")
"""Columns of the table, which has to fit a terminal; the other formats have all."""


def _seen(row: dict[str, Any], top: Path) -> dict[str, Any]:
    below = Path(row["folder"]) != top
    return {
        "folder": Path(row["folder"]).relative_to(top) if below else row["folder"],
        "clips": row["clips"],
        "windows": row["windows"],
        "unknown": None if row["share"] is None else f"{row['share']:.1%}",
        "95 % interval": None if row["share"] is None else f"{row['low']:.1%} - {row['high']:.1%}",
        "failed": row["failed"],
        "finding": row["finding"],
    }
