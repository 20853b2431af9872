"""``gramcli train``: its options and output; `gramcli.training` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gramcli.cli.options import Given, Panel, example, takes
from gramcli.cli.render import Bar, print_stderr
from gramcli.errors import Exit


def register(app: typer.Typer) -> None:
    """Adds the command."""
    examples = example("gramcli train clips.csv --network resnet18 --out net.safetensors")
    app.command("train", epilog=examples, rich_help_panel=Panel.START)(train_cmd)


@takes(
    "data.audio_root",
    "data.allow_outside",
    "data.validation_fold",
    "data.test_fold",
    "data.hold_out",
    "data.max_seconds",
    "data.allow_truncated",
    "data.seed",
    "segment",
    "frontend",
    "network.name",
    "network.classes",
    "network.args",
    "train",
    "run.device",
    "run.threads",
    "run.precision",
    "run.decoders",
    builds_network=True,
)
def train_cmd(
    given: Given,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="W.safetensors", help="Checkpoint to write.")],
    manifest: Annotated[
        str | None, typer.Argument(help="Folder, CSV/TSV/JSONL file or DCASE folder that lists the clips.")
    ] = None,
) -> None:
    """Train a network, if you have none, by the recipe of Joia Neto et al. (ICASSP 2021).

    The checkpoint keeps the weights of the epoch with the best validation accuracy, and the settings and clips they
    were trained with: gramcli extract --weights reads these settings. After an interruption, run the same command
    again to go on. Needs Lightning: install it, or gramcli with its extra train.
    """
    from gramcli.settings.configure import configure
    from gramcli.training.train import train

    given.put("data", "manifest", manifest)
    with Bar(quiet=given.quiet) as bar:
        context = given.context(bar)
        settings = configure(context)
        given.note_settings(bar, settings)
        done = train(settings, out, context)
    if not given.quiet:
        print_stderr(
            "done",
            f"{done.path}: epoch {done.epoch} of {done.epochs}, validation accuracy {done.accuracy:.3f}, "
            f"{done.seconds:.1f} s",
        )
    if done.failed:
        print_stderr("error", f"{done.failed} clips failed and were left out")
        raise typer.Exit(Exit.PARTIAL)
