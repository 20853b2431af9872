"""``gramcli train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gramcli.cli.options import Given, takes
from gramcli.cli.render import Bar, complain
from gramcli.errors import Exit


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("train")(train_cmd)


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
)
def train_cmd(
    given: Given,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="W.safetensors", help="Checkpoint to write.")],
    manifest: Annotated[
        str | None, typer.Argument(help="Folder, CSV/TSV/JSONL file or DCASE folder that lists the clips.")
    ] = None,
) -> None:
    """Train a network from random weights, by the paper's recipe unless told otherwise.

    The checkpoint holds the epoch that does best on the validation split, and says how it was made and on which clips;
    gramcli extract --weights takes all settings from it. Run the command again after an interruption and it goes on.
    Needs Lightning, which the extra train brings.
    """
    from gramcli.settings.configure import configure, home
    from gramcli.training.train import train

    given.put("data", "manifest", manifest)
    settings = configure(given.flags, config=given.config, weights=False)
    with Bar(quiet=given.quiet) as bar:
        given.tell(bar, settings)
        done = train(settings, out, folder=home(given.config), progress=bar)
    if not given.quiet:
        complain(
            "done",
            f"{done.path}: epoch {done.epoch} of {done.epochs}, validation accuracy {done.accuracy:.3f}, "
            f"{done.seconds:.1f} s",
        )
    if done.failed:
        complain("error", f"clips that cannot be used were left out: {done.failed}")
        raise typer.Exit(Exit.PARTIAL)
