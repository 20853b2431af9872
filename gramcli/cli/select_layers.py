"""``gramcli select-layers``: its options and output; `gramcli.calibration.select_layers` does the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from gramcli.cli import render
from gramcli.cli.calibrate import Preset
from gramcli.cli.options import AsJson, FormatOption, Given, Panel, example, takes
from gramcli.cli.outcome import settle
from gramcli.cli.render import Bar
from gramcli.text import shown


def register(app: typer.Typer) -> None:
    """Adds the command."""
    examples = example("gramcli select-layers", "gramcli select-layers --threshold-from site/recordings")
    app.command("select-layers", epilog=examples, rich_help_panel=Panel.BUILD)(select_layers_cmd)


@takes("decision", "network.name", "network.weights", "run", "cache.dir", builds_network=True)
def select_layers_cmd(
    given: Given,
    preset: Preset = None,
    threshold_from: Annotated[
        Path | None,
        typer.Option(
            "--threshold-from",
            metavar="FOLDER",
            help="Set the threshold for unknown sounds on a folder of ordinary recordings of a site, which need no "
            "labels (default: on the validation clips).",
        ),
    ] = None,
    format: FormatOption = None,
    as_json: AsJson = False,
) -> None:
    """Rank the layers, fit the decision rule and set the threshold.

    Layers are ranked by how well they tell the classes apart on the validation clips. The result is what classify,
    check, evaluate and export use. Run gramcli calibrate first.
    """
    from gramcli.settings.configure import configure
    from gramcli.settings.schema import PRESETS

    with Bar(quiet=given.quiet) as bar:
        context = given.context(bar)
        settings = configure(context, preset=preset)
        epsilon = PRESETS[preset]["calibrate"]["epsilon"] if preset else None
        given.note_settings(bar, settings)
        failed: Mapping[str, str] = {}
        files = 0
        if threshold_from is None:
            from gramcli.calibration.select_layers import select_layers

            decision, statistics = select_layers(given.cache, settings.decision, epsilon=epsilon, progress=bar)
        else:
            from gramcli.inference.site_threshold import select_layers_at  # slow to import: decoders and network

            selected = select_layers_at(
                given.cache, threshold_from, settings.decision, epsilon=epsilon, context=context
            )
            decision, statistics = selected.decision, selected.statistics
            failed, files = selected.failed, selected.files
    ranking = decision.ranking
    expected = dict(zip(statistics.layers, statistics.expected.tolist(), strict=True))
    ranked = {layer: n for n, layer in enumerate(ranking.layers)}
    rows: list[dict[str, Any]] = []
    for layer in [*ranking.layers, *(layer for layer in statistics.layers if layer not in ranked)]:
        n = ranked.get(layer)
        rows.append(
            {
                "rank": None if n is None else n + 1,
                "layer": layer,
                "score": None if n is None else ranking.scores[n],
                "E_l": expected[layer],
                "channels": statistics.layers[layer],
                "chosen": n is not None and n < ranking.chosen,
                "validation_accuracy": None if n is None else ranking.accuracy[n],
            }
        )
    limit = decision.rule.threshold
    about = {
        "ranking": ranking.method,
        "top_k": ranking.top_k,
        "chosen": ranking.chosen,
        "rule": decision.rule.name,
        "held_out_accuracy": decision.held_out,
        "threshold": None if limit is None else asdict(limit),
    }
    render.rows(list(rows[0]), rows, render.output_format(format, as_json), about=about)
    if not given.quiet:
        best = ranking.accuracy[ranking.chosen - 1]
        render.print_stderr(
            "done",
            f"{ranking.chosen} of {len(rows)} layers are used in the deviation (ranking {ranking.method}, top-k "
            f"{ranking.top_k}); their validation accuracy, {best:.3f}, was used to choose them and is no estimate",
        )
        if decision.held_out is not None:
            render.print_stderr(
                "rule",
                f"{decision.rule.name}, accuracy {decision.held_out:.3f} on validation clips, by cross-fitting; this "
                "is optimistic, as its settings were chosen on the same clips; gramcli evaluate measures it on test "
                "clips",
            )
        if limit is not None:
            render.print_stderr("unknown", f"above strangeness {limit.value:.3f}, which {shown(limit.promise)}")
    settle(failed, files, usable=True)
