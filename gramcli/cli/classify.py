"""``gramcli classify``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gramcli.cli import render
from gramcli.cli.options import Given, takes
from gramcli.cli.outcome import settle
from gramcli.cli.render import Bar, Format
from gramcli.errors import UsageError
from gramcli.text import shown


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("classify")(classify_cmd)


@takes("network.weights", "data.max_seconds", "data.allow_truncated", "run", "cache.dir")
def classify_cmd(
    given: Given,
    files: Annotated[list[str], typer.Argument(metavar="FILE|FOLDER...", help="Recordings, or folders of them.")],
    model: Annotated[
        Path | None, typer.Option("--model", help="File made by gramcli export, in place of a cache.")
    ] = None,
    prior: Annotated[
        list[str] | None,
        typer.Option(
            "--prior",
            metavar="uniform|CLASS=SHARE,...",
            help="How frequent the classes are here; those not named get what is left of 1 (default: as in training).",
        ),
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(
            "--submission", metavar="FILE.tsv", help="Also write the file that the DCASE challenge takes for scenes."
        ),
    ] = None,
    format: Annotated[Format | None, typer.Option("--format", help="How to print.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
) -> None:
    """Classify recordings, one row a window, by how little they deviate from each class."""
    from gramcli.audio.decoder_pool import start_ahead
    from gramcli.audio.find import audio_files
    from gramcli.inference import dcase_submission
    from gramcli.inference.classifier import COLUMNS, GramClassifier, Prediction
    from gramcli.system.durable_files import require_place

    paths = audio_files(files)  # before the network is built, so that a slip in a name costs no wait
    if submission is not None:
        require_place(submission)
    start_ahead()
    classifier = GramClassifier.load(given.model(model), given.flags, given.config, _prior(prior))
    how = render.chosen(format, as_json)
    failed: dict[str, str] = {}
    read = set()
    submitted: list[Prediction] = []

    def rows(bar: Bar) -> Iterator[dict[str, Any]]:
        for prediction in classifier.stream(paths, progress=bar):
            if prediction.status == "ok":
                read.add(prediction.path)
            else:
                failed[prediction.path] = prediction.error
            if submission is not None:
                submitted.append(prediction)
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
        render.rows(_SEEN, map(_seen, done), how, shrink="file")
        for path, reason in failed.items():
            render.say(f"failed: {shown(path)}: {reason}")
    elif how is Format.json:
        render.rows(COLUMNS, done, how)
    if submission is not None and read:
        dcase_submission.write(submission, submitted, classifier.classes)
        if (missing := len(paths) - len(read)) and not given.quiet:
            render.complain(
                "note", f"{shown(submission)}: {missing} of {len(paths)} recordings have no line, as they failed"
            )
    settle(failed, len(paths), usable=bool(read))


def _prior(given: list[str] | None) -> dict[str, float] | None:
    if not given:
        return None
    if given == ["uniform"]:
        return {}
    prior = {}
    shares = [part.strip() for one in given for part in (one.split(",") if _many(one) else [one])]
    for one in shares:
        label, equals, share = one.rpartition("=")
        try:
            prior[label] = float(share)
        except ValueError:
            equals = ""
        if not equals or not label:
            raise UsageError(f"--prior {shown(one)}: give uniform, or CLASS=SHARE,... with shares of 1")
    return prior


def _many(text: str) -> bool:
    """Tells CLASS=SHARE,CLASS=SHARE from one class with a comma in its name."""
    return all("=" in part for part in text.split(","))


_SEEN = ("file", "seconds", "label", "prob", "deviation", "network")
"""Columns of the table, which has to fit a terminal; the other formats have all."""


def _seen(row: dict[str, Any]) -> dict[str, Any]:
    confidence = row["network_confidence"]
    return {
        "file": Path(row["path"]).name,
        "seconds": "" if row["start"] is None else f"{row['start']:g}-{row['end']:g}",
        "label": _label(row),
        "prob": row["probability_if_known"],
        "deviation": row["deviation"],
        "network": None if confidence is None else f"{row['network_label']} {confidence:.2f}",
    }


def _label(row: dict[str, Any]) -> str:
    if row["status"] != "ok":
        return "failed"
    return f"unknown ({row['label']})" if row["unknown"] else row["label"] + " (tied)" * row["tied"]
