"""``gramcli select-layers``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from gramcli.cli import render
from gramcli.cli.calibrate import Preset
from gramcli.cli.options import Given, takes
from gramcli.cli.outcome import settle
from gramcli.cli.render import Bar, Format
from gramcli.text import shown


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("select-layers")(select_layers_cmd)


@takes("decision", "network.weights", "run", "cache.dir")
def select_layers_cmd(
    given: Given,
    preset: Preset = None,
    threshold_from: Annotated[
        Path | None,
        typer.Option(
            "--threshold-from",
            metavar="FOLDER",
            help="Set the threshold of unknown sounds on the ordinary recordings of a place, without labels "
            "(default: on validation clips).",
        ),
    ] = None,
    format: Annotated[Format | None, typer.Option("--format", help="How to print.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
) -> None:
    """Rank the layers by how well they tell the classes apart, and store which of them decide."""
    from gramcli.settings.configure import configure
    from gramcli.settings.schema import PRESETS

    settings = configure(given.flags, config=given.config, preset=preset, weights=False)
    epsilon = PRESETS[preset]["calibrate"]["epsilon"] if preset else None
    with Bar(quiet=given.quiet) as bar:
        given.tell(bar, settings)
        failed: Mapping[str, str] = {}
        files = 0
        if threshold_from is None:
            from gramcli.calibration.select_layers import select_layers

            decision, known = select_layers(given.cache, settings.decision, epsilon=epsilon, progress=bar)
        else:
            from gramcli.inference.site_threshold import select_layers_at  # imports what decodes audio

            selected = select_layers_at(
                given.cache,
                threshold_from,
                settings.decision,
                epsilon=epsilon,
                flags=given.flags,
                config=given.config,
                progress=bar,
            )
            decision, known = selected.decision, selected.statistics
            failed, files = selected.failed, selected.files
    ranking = decision.ranking
    expected = dict(zip(known.layers, known.expected.tolist(), strict=True))
    ranked = {layer: n for n, layer in enumerate(ranking.layers)}
    rows: list[dict[str, Any]] = []
    for layer in [*ranking.layers, *(layer for layer in known.layers if layer not in ranked)]:
        n = ranked.get(layer)
        rows.append(
            {
                "rank": None if n is None else n + 1,
                "layer": layer,
                "score": None if n is None else ranking.scores[n],
                "E_l": expected[layer],
                "channels": known.layers[layer],
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
    render.rows(list(rows[0]), rows, render.chosen(format, as_json), about=about)
    if not given.quiet:
        best = ranking.accuracy[ranking.chosen - 1]
        render.complain(
            "done",
            f"{ranking.chosen} of {len(rows)} layers make up the deviation (ranking {ranking.method}, top-k "
            f"{ranking.top_k}); validation accuracy of the first k layers, here {best:.3f}, selects and does not "
            "estimate",
        )
        if decision.held_out is not None:
            render.complain(
                "rule",
                f"{decision.rule.name}, right on {decision.held_out:.3f} of validation clips held out; ridge and "
                "shares were chosen on the same clips, so this flatters (evaluate judges on test clips)",
            )
        if limit is not None:
            render.complain("unknown", f"beyond strangeness {limit.value:.3f}, which {shown(limit.promise)}")
    settle(failed, files, usable=True)
