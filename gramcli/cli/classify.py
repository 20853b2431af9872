"""``gramcli classify``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gramcli.cli import render
from gramcli.cli.options import Given, takes
from gramcli.cli.render import Bar, Format
from gramcli.errors import Exit, NoInputError, shown


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("classify")(classify_cmd)


@takes("network.weights", "run", "cache.dir")
def classify_cmd(
    given: Given,
    files: Annotated[list[str], typer.Argument(metavar="FILE|FOLDER...", help="Recordings, or folders of them.")],
    model: Annotated[
        Path | None, typer.Option("--model", help="File made by gramcli export, in place of a cache.")
    ] = None,
    format: Annotated[Format | None, typer.Option("--format", help="How to print.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
) -> None:
    """Classify recordings, one row a window, by how little they deviate from each class."""
    from gramcli.audio.find import audio_files
    from gramcli.stages.classify import COLUMNS, GramClassifier

    paths = audio_files(files)  # before the network is built, so that a slip in a name costs no wait
    classifier = GramClassifier.load(model or given.cache, given.flags, given.config)
    how = render.chosen(format, as_json)
    failed: dict[str, str] = {}
    read = set()

    def rows(bar: Bar) -> Iterator[dict[str, Any]]:
        for prediction in classifier.stream(paths, progress=bar):
            if prediction.status == "ok":
                read.add(prediction.path)
            else:
                failed[prediction.path] = prediction.error
            yield prediction.row()

    # rows that come one by one on a terminal are progress enough; a bar would get between them
    streams = how in (Format.csv, Format.jsonl)
    with Bar(quiet=given.quiet or (streams and sys.stdout.isatty())) as bar:
        given.tell(bar, classifier.settings)
        if streams:
            render.rows(COLUMNS, rows(bar), how)
        else:
            done = list(rows(bar))
    if how is Format.table:
        render.rows(_SEEN, map(_seen, done), how)
    elif how is Format.json:
        render.rows(COLUMNS, done, how)
    if failed:
        path, reason = next(iter(failed.items()))
        text = f"{len(failed)} of {len(paths)} files failed; the first, {shown(path)}: {reason}"
        if not read:
            raise NoInputError(text)
        render.complain("error", text)
        raise typer.Exit(Exit.PARTIAL)


_SEEN = ("file", "seconds", "label", "deviation", "runner-up", "margin", "network")
"""Columns of the table, which has to fit a terminal; the other formats have all."""


def _seen(row: dict[str, Any]) -> dict[str, Any]:
    label = f"failed: {row['error']}" if row["status"] != "ok" else row["label"] + " (tied)" * row["tied"]
    confidence = row["network_confidence"]
    return {
        "file": Path(row["path"]).name,
        "seconds": "" if row["start"] is None else f"{row['start']:g}-{row['end']:g}",
        "label": label,
        "deviation": row["deviation"],
        "runner-up": row["runner_up"],
        "margin": row["margin"],
        "network": None if confidence is None else f"{row['network_label']} {confidence:.2f}",
    }
