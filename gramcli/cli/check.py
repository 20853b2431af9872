"""``gramcli check``: its options and output; `gramcli.inference.shift_check` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gramcli.cli import render, streams
from gramcli.cli.options import AsJson, FormatOption, Given, Model, Panel, example, takes
from gramcli.cli.outcome import settle
from gramcli.cli.render import Bar, Format


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("check", epilog=example("gramcli check recordings/"), rich_help_panel=Panel.USE)(check_cmd)


@takes("network.name", "network.weights", "data.max_seconds", "data.allow_truncated", "run", "cache.dir",
       builds_network=True)  # fmt: skip
def check_cmd(
    given: Given,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of recordings; they need no labels.")],
    model: Model = None,
    format: FormatOption = None,
    as_json: AsJson = False,
) -> None:
    """Check whether the calibration fits other recordings, without labels.

    It counts the windows that are called unknown. If there are more than the stated rate of the threshold, the
    recordings differ from the clips of the calibration, and their labels may be wrong.
    """
    from gramcli.inference.shift_check import COLUMNS, check_shift

    streams.require()
    with Bar(quiet=given.quiet) as bar:
        found = check_shift(given.model(model), folder, given.context(bar))
    how = render.output_format(format, as_json)
    rows = [one.row() for one in found.folders]
    if how is Format.table:
        stated = f"windows called unknown; the threshold was set to reject {100 * found.threshold.false_reject:.3g}%"
        render.table(_SHORT, (_short(row, folder) for row in rows), title=stated, shrink="folder")
    else:
        render.rows(COLUMNS, rows, how, about=found.about())
    sentences = [("warning", one) for one in found.warnings] or [("verdict", found.verdict)]
    for kind, sentence in () if how is Format.json else sentences:
        if how is Format.table:
            render.print_text(f"{kind}: {sentence}")
        elif not given.quiet:
            render.print_stderr(kind, sentence)
    settle(found.failed, found.files, usable=found.folders[0].clips > 0)


_SHORT = ("folder", "clips", "windows", "unknown", "95 % interval", "failed", "finding")
"""Columns of the table, which must fit a terminal; the other formats have all columns."""


def _short(row: dict[str, Any], top: Path) -> dict[str, Any]:
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
