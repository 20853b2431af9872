"""``gramcli classify``: its options and output; `gramcli.inference.classifier` does the work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gramcli.cli import render, streams
from gramcli.cli.options import AsJson, FormatOption, Given, Model, Panel, example, takes
from gramcli.cli.outcome import settle
from gramcli.cli.render import Bar, Format
from gramcli.errors import UsageError
from gramcli.text import shown


def register(app: typer.Typer) -> None:
    """Adds the command."""
    examples = example(
        "gramcli classify new.wav recordings/", "gramcli classify --model model.safetensors new.wav --json"
    )
    app.command("classify", epilog=examples, rich_help_panel=Panel.USE)(classify_cmd)


@takes("network.name", "network.weights", "data.max_seconds", "data.allow_truncated", "run", "cache.dir",
       builds_network=True)  # fmt: skip
def classify_cmd(
    given: Given,
    files: Annotated[list[str], typer.Argument(metavar="FILE|FOLDER...", help="Recordings, or folders of them.")],
    model: Model = None,
    prior: Annotated[
        list[str] | None,
        typer.Option(
            "--prior",
            metavar="uniform|CLASS=SHARE,...",
            help="How frequent the classes are in these recordings; classes not named share the rest of 1 (default: "
            "as in training).",
        ),
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(
            "--submission", metavar="FILE.tsv", help="Also write a file for the DCASE challenge on acoustic scenes."
        ),
    ] = None,
    format: FormatOption = None,
    as_json: AsJson = False,
) -> None:
    """Classify recordings, and say which windows are like none of the classes.

    The output has one row per window. Run gramcli select-layers first, or give --model.
    """
    from gramcli.audio.decoder_process import start_ahead
    from gramcli.audio.find import audio_files
    from gramcli.inference import dcase_submission
    from gramcli.inference.classifier import COLUMNS, GramClassifier, Prediction

    paths = audio_files(files)  # before the network is built, so that a typing error costs no time
    if submission is None:
        streams.require()
    else:
        dcase_submission.require_writable(submission)
    shares = _prior(prior)
    start_ahead()
    how = render.output_format(format, as_json)
    failed: dict[str, str] = {}
    read = set()
    submitted: list[Prediction] = []

    def rows(classifier: GramClassifier) -> Iterator[dict[str, Any]]:
        for prediction in classifier.stream(paths):
            if prediction.status == "ok":
                read.add(prediction.path)
            else:
                failed[prediction.path] = prediction.error
            if submission is not None:
                submitted.append(prediction)
            yield prediction.row()

    # on a terminal, rows that are printed one by one show the progress themselves
    one_by_one = how in (Format.csv, Format.jsonl)
    with Bar(quiet=given.quiet or (one_by_one and streams.stdout_is_terminal())) as bar:
        classifier = GramClassifier.load(given.model(model), given.context(bar), shares)
        given.note_settings(bar, classifier.settings)
        if one_by_one:
            render.rows(COLUMNS, rows(classifier), how)
        else:
            done = list(rows(classifier))
    if how is Format.table:
        render.table(_SHORT, map(_short, done), shrink="file")
        for path, reason in failed.items():
            render.print_text(f"failed: {shown(path)}: {reason}")
    elif how is Format.json:
        render.rows(COLUMNS, done, how)
    if submission is not None and read:
        dcase_submission.write(submission, submitted, classifier.classes)
        if (missing := len(paths) - len(read)) and not given.quiet:
            render.print_stderr(
                "note", f"{shown(submission)}: {missing} of {len(paths)} recordings failed and have no line in it"
            )
    settle(failed, len(paths), usable=bool(read))


def _prior(given: list[str] | None) -> dict[str, float] | None:
    if not given:
        return None
    if {text.strip() for text in given} == {"uniform"}:
        return {}
    prior: dict[str, float] = {}
    for one in (part.strip() for text in given for part in (text.split(",") if _many(text) else [text])):
        label, _, share = (part.strip() for part in one.rpartition("="))
        try:
            value = float(share)
        except ValueError:
            label = ""
        if not label:
            raise UsageError(f"--prior {shown(one)}: give uniform, or CLASS=SHARE,... with shares that add up to 1")
        if label in prior:
            raise UsageError(f"--prior: the class {shown(label)} is named twice; give it one share")
        prior[label] = value
    return prior


def _many(text: str) -> bool:
    """Returns whether a text is CLASS=SHARE,CLASS=SHARE, and not one class with a comma in its name."""
    return all("=" in part for part in text.split(","))


_SHORT = ("file", "seconds", "label", "prob", "deviation", "network")
"""Columns of the table, which must fit a terminal; the other formats have all columns."""


def _short(row: dict[str, Any]) -> dict[str, Any]:
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
