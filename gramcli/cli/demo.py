"""``gramcli demo``: runs the commands that a user would type, one after another, on synthesised sounds."""

from __future__ import annotations

import csv
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from gramcli.cli import render, streams
from gramcli.cli.options import Panel, example
from gramcli.errors import UsageError
from gramcli.system import durable_files, import_path
from gramcli.text import shown


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("demo", epilog=example("gramcli demo"), rich_help_panel=Panel.START)(demo_cmd)


def demo_cmd(
    folder: Annotated[Path, typer.Argument(help="Folder to work in; it is created and kept.")] = Path("gramcli-demo"),
) -> None:
    """Show every step on synthesised sounds, offline and in under a minute."""
    from gramcli.demo import WEIGHTS, sounds

    manifest = folder / "sounds" / "manifest.csv"
    if folder.is_symlink():  # the folder `gramcli-demo` of somebody else could lead anywhere
        raise UsageError(f"{shown(folder)}: is a link; name a folder")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{shown(folder)}: is a file; name a folder")
    if folder.exists() and any(folder.iterdir()) and not _is_demo(folder, manifest):
        raise UsageError(f"{shown(folder)}: exists and holds other files; name another folder")
    durable_files.make_folder(folder / "sounds", below=folder)
    _say(
        f"This makes sounds of {len(sounds.CLASSES)} classes in {folder}. A small network for them comes with gramcli."
    )
    sounds.write(manifest.parent)
    durable_files.write(folder / WEIGHTS.name, WEIGHTS.read_bytes(), below=folder)
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    one = next(row for row in rows if row["split"] == "test")
    clip = f"sounds/{one['file']}"
    for why, command in (
        ("Run the network once on every clip, and keep each layer's descriptor.",
         ["extract", "sounds/manifest.csv", "--weights", WEIGHTS.name]),
        ("Learn each class's bounds from the training clips.", ["calibrate"]),
        ("Rank the layers on the validation clips, and fit the decision rule.", ["select-layers"]),
        ("Measure each decision on the test clips, and say whether gramcli is better than the network.", ["evaluate"]),
        (f"Classify one of these clips, whose label is {one['label']}.", ["classify", clip]),
    ):  # fmt: skip
        _say(f"\n# {why}")
        render.print_line(f"$ {shlex.join(['gramcli', *command])}")
        # -P: no file of the folder is imported in place of a library
        line = [sys.executable, "-P", "-m", "gramcli", *command]
        output = subprocess.DEVNULL if streams.lost() else None  # the loss is reported once, by this process
        done = subprocess.run(line, cwd=folder, env=import_path.environment(_PACKAGE), stdout=output, check=False)
        if done.returncode:
            raise typer.Exit(done.returncode)
    _say(f"\nAll files are in {folder}. Next: gramcli guide start explains these steps with your own recordings.")


_PACKAGE = str(Path(__file__).parents[2])
"""Folder that holds this very package."""


def _is_demo(folder: Path, manifest: Path) -> bool:
    """Returns whether a folder holds what an earlier demo made and nothing else; a link could lead out of it."""
    from gramcli.demo import WEIGHTS, sounds

    made = {folder / "sounds", folder / WEIGHTS.name, folder / ".gramcli"}
    folders = [folder / "sounds", folder / ".gramcli", *(folder / "sounds" / label for label in sounds.CLASSES)]
    if not made.issuperset(folder.iterdir()) or any(one.is_symlink() for one in (*folders, manifest)):
        return False
    return manifest.is_file() and manifest.stat().st_size < 1 << 20 and manifest.read_bytes() == sounds.manifest()


def _say(text: str) -> None:
    for line in text.split("\n"):
        render.print_text(line)
