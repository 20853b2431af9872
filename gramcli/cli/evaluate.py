"""``gramcli evaluate``."""

from __future__ import annotations

from typing import Annotated

import typer

from gramcli.cli import render
from gramcli.cli.options import Given, takes
from gramcli.cli.render import Bar, Format

_NAMES = {"map": "network alone (map)", "gram": "Gram (gram)"}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("evaluate")(evaluate_cmd)


@takes("cache.dir")
def evaluate_cmd(
    given: Given,
    split: Annotated[str, typer.Option("--split", metavar="train|validation|test", help="Split to judge on.")] = "test",
    format: Annotated[Format | None, typer.Option("--format", help="How to print.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
) -> None:
    """Compare the network alone with the Gram decision on a labelled split of the cache."""
    from gramcli.stages.evaluate import evaluate

    with Bar(quiet=given.quiet) as bar:
        result = evaluate(given.cache, split, progress=bar)
    how = render.chosen(format, as_json)
    if how is Format.json:
        render.document(result.as_dict())
        return
    rows = [
        {"decision": name if how is not Format.table else _NAMES.get(name, name), **measures}
        for name, measures in result.decisions.items()
    ]
    title = f"{result.split}: {result.clips} clips, {result.failed} failed"
    render.rows(["decision", "accuracy", "balanced_accuracy"], rows, how, title=title)
