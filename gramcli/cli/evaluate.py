"""``gramcli evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gramcli.cli import ood, render
from gramcli.cli.options import Condition, Given, OverrideMetadata, takes
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
"""Column: share of these known clips that are called unknown; only the default decision says so."""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("evaluate")(evaluate_cmd)


@takes("network.weights", "run", "cache.dir")
def evaluate_cmd(
    given: Given,
    manifest: Annotated[
        str | None, typer.Argument(help="With --folds: the table that lists clips and folds.", show_default=False)
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option(
            "--folds",
            metavar="PATTERN",
            help="Judge a whole cross-validation, one checkpoint a fold, e.g. 'resnet18-{fold}.safetensors'.",
        ),
    ] = None,
    override_metadata: OverrideMetadata = False,
    split: Annotated[str, typer.Option("--split", metavar="train|validation|test", help="Split to judge on.")] = "test",
    condition: Condition = None,
    rivals: Annotated[
        bool,
        typer.Option(
            "--rivals",
            help="Also judge other classifiers on the same descriptors, fitted on the same clips (scikit-learn).",
        ),
    ] = False,
    unknown: Annotated[
        Path | None,
        typer.Option(
            "--unknown",
            metavar="FOLDER",
            help="Also tell sounds of no class, in this folder, from the test clips; csv and jsonl have no rows of it.",
        ),
    ] = None,
    format: Annotated[Format | None, typer.Option("--format", help="How to print.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
) -> None:
    """Judge each decision on a labelled split of the cache, and say which one to use.

    The default decision is compared with the network alone; all other figures describe. With --folds, extract,
    calibrate and select-layers run for every fold, each in a cache of its own, and all test clips are judged together.
    Clips of labels that were held out, and with --unknown the sounds of a folder, are told from the test clips by the
    deviation and by other scores.
    """
    from gramcli.evaluation.cross_validation import evaluate_folds
    from gramcli.evaluation.evaluate import evaluate

    given.put("data", "manifest", manifest)
    with Bar(quiet=given.quiet) as bar:
        asked: dict[str, Any] = {"conditions": condition or (), "rivals": rivals, "progress": bar}
        asked |= {"flags": given.flags, "config": given.config}
        if folds is None:
            if manifest is not None:
                raise UsageError(f"{shown(manifest)}: a manifest goes with --folds; a cache knows its clips")
            if override_metadata:
                raise UsageError("--override-metadata goes with --folds; a cache knows its settings")
            result = evaluate(given.cache, split, unknown=unknown, **asked)
        else:
            if split != "test" or unknown is not None or "weights" in given.flags.get("network", {}):
                raise UsageError(
                    "--folds judges test clips by each fold's own checkpoint: leave out --split, --weights, --unknown"
                )
            result = evaluate_folds(folds, override_metadata=override_metadata, **asked)
    how = render.chosen(format, as_json)
    if how is Format.json:
        render.document(result.as_dict())
        ood.end(result.unknown or ())
        return
    table = how is Format.table
    rows: list[dict[str, Any]] = []
    for name, heard in result.conditions.items():
        for decision, measures in heard.decisions.items():
            label = _NAMES.get(decision, decision) if table else decision
            told = {_SHORT.get(key, key) if table else key: value for key, value in measures.items()}
            unknown_share = heard.rejected if decision == result.default else None
            rows.append({"condition": name, "decision": label, **told, _UNKNOWN: unknown_share})
    only = table and len(result.conditions) == 1
    columns = ["decision", *(_SHORT.get(key, key) if table else key for key in _MEASURES)]
    if not table:  # which has a line of it
        columns.append(_UNKNOWN)
    clean = result.clean
    title = f"{result.split}: {clean.clips} clips of {clean.groups} groups, {clean.failed} failed"
    render.rows(columns if only else ["condition", *columns], rows, how, title=title)
    if table:
        for name, heard in result.conditions.items():
            if heard.rejected is not None:
                render.say(f"{name}: {heard.rejected:.1%} of these known clips are called unknown")
        render.say(result.verdict)
    elif not given.quiet or result.split != "test":  # that nothing can be concluded belongs to the figures
        render.complain("verdict", result.verdict)
    for one in result.unknown or ():
        ood.tell(one, how, given.quiet)
    ood.end(result.unknown or ())
