"""``gramcli evaluate``: its options and output; `gramcli.evaluation` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gramcli.cli import ood, render
from gramcli.cli.options import (
    AsJson,
    Condition,
    FormatOption,
    Given,
    OverrideMetadata,
    Panel,
    example,
    takes,
)
from gramcli.cli.render import Bar, Format
from gramcli.errors import UsageError
from gramcli.text import shown

_NAMES = {
    "map": "network alone (map)",
    "temperature": "network, temperature",
    "gram": "smallest deviation (gram)",
    "fused": "network + layers (fused)",
    "nearest-mean": "rival: nearest mean",
    "lda": "rival: LDA",
    "neighbours": "rival: neighbours",
    "probe": "rival: probe",
    "probe+network": "rival: probe + network",
    "vector": "rival: vector scaling",
    "means-lda": "rival: LDA on means",
    "means-probe": "rival: probe on means",
}
_MEASURES = ("accuracy", "balanced_accuracy", "macro_f1", "negative_log_likelihood", "brier")
_SHORT = {"balanced_accuracy": "balanced", "macro_f1": "F1", "negative_log_likelihood": "NLL", "brier": "Brier"}

_UNKNOWN = "called_unknown"
"""Column: share of these known clips that are called unknown, by the default decision."""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    examples = example(
        "gramcli evaluate",
        "gramcli evaluate --condition noise:20 --condition gain:-10",
        "gramcli evaluate clips.csv --folds 'net-{fold}.safetensors'",
    )
    app.command("evaluate", epilog=examples, rich_help_panel=Panel.USE)(evaluate_cmd)


@takes("network.name", "network.weights", "run", "cache.dir", builds_network=True)
def evaluate_cmd(
    given: Given,
    manifest: Annotated[
        str | None, typer.Argument(help="With --folds only: the table of clips and folds.", show_default=False)
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option(
            "--folds",
            metavar="PATTERN",
            help="Evaluate a cross-validation with one checkpoint per fold, e.g. 'net-{fold}.safetensors'.",
        ),
    ] = None,
    override_metadata: OverrideMetadata = False,
    split: Annotated[
        str, typer.Option("--split", metavar="train|validation|test", help="Split to evaluate on.")
    ] = "test",
    condition: Condition = None,
    rivals: Annotated[
        bool,
        typer.Option(
            "--rivals",
            help="Also evaluate other classifiers, fitted on the same clips and descriptors (needs scikit-learn).",
        ),
    ] = False,
    unknown: Annotated[
        Path | None,
        typer.Option(
            "--unknown",
            metavar="FOLDER",
            help="Also measure how well sounds of no class, in this folder, are distinguished from the test clips (in "
            "the table and json only).",
        ),
    ] = None,
    format: FormatOption = None,
    as_json: AsJson = False,
) -> None:
    """Measure each decision on labelled clips, and say whether gramcli is better than the network.

    The sentence at the end compares the default decision with the network alone. Run gramcli select-layers first.

    With --folds, gramcli runs extract, calibrate and select-layers for every fold, each in a cache of its own, and
    evaluates all test clips together.

    If labels were held out (extract --hold-out), or a folder is given with --unknown, a second table shows how well
    these unknown sounds are distinguished from the known test clips.
    """
    from gramcli.evaluation.cross_validation import evaluate_folds
    from gramcli.evaluation.evaluate import evaluate

    given.put("data", "manifest", manifest)
    with Bar(quiet=given.quiet) as bar:
        options: dict[str, Any] = {"conditions": condition or (), "rivals": rivals, "context": given.context(bar)}
        if folds is None:
            if manifest is not None:
                raise UsageError(
                    f"{shown(manifest)}: a manifest is only used with --folds; leave it out, the cache lists its clips"
                )
            if override_metadata:
                raise UsageError("--override-metadata is only used with --folds; leave it out")
            result = evaluate(given.cache, split, unknown=unknown, **options)
        else:
            if split != "test" or unknown is not None or "weights" in given.settings.get("network", {}):
                raise UsageError(
                    "--folds evaluates the test clips with each fold's own checkpoint: leave out --split, --weights "
                    "and --unknown"
                )
            result = evaluate_folds(folds, override_metadata=override_metadata, **options)
    how = render.output_format(format, as_json)
    if how is Format.json:
        render.print_json(result.as_dict())
        ood.end(result.unknown or ())
        return
    as_table = how is Format.table
    rows: list[dict[str, Any]] = []
    for name, one in result.conditions.items():
        for decision, measures in one.decisions.items():
            label = _NAMES.get(decision, decision) if as_table else decision
            figures = {_SHORT.get(key, key) if as_table else key: value for key, value in measures.items()}
            unknown_share = one.rejected if decision == result.default else None
            rows.append({"condition": name, "decision": label, **figures, _UNKNOWN: unknown_share})
    columns = ["decision", *(_SHORT.get(key, key) if as_table else key for key in _MEASURES)]
    if not as_table:  # a line below the table states it
        columns.append(_UNKNOWN)
    if not as_table or len(result.conditions) > 1:
        columns.insert(0, "condition")
    clean = result.clean
    title = f"{result.split}: {clean.clips} clips of {clean.groups} groups, {clean.failed} failed"
    if as_table:
        render.table(columns, rows, title=title)
        for name, one in result.conditions.items():
            if one.rejected is not None:
                render.print_text(f"{name}: {one.rejected:.1%} of these known clips are called unknown")
        render.print_text(result.verdict)
    else:
        render.rows(columns, rows, how)
        if not given.quiet or result.split != "test":  # with other splits the figures must not be quoted
            render.print_stderr("verdict", result.verdict)
    for study in result.unknown or ():
        ood.show(study, how, given.quiet)
    ood.end(result.unknown or ())
