"""``gramcli demo``: the commands a user would type, one after another, on sounds that are made on the spot."""

from __future__ import annotations

import csv
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from gramcli.cli import render
from gramcli.errors import UsageError
from gramcli.system import durable_files
from gramcli.text import shown


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("demo")(demo_cmd)


def demo_cmd(
    folder: Annotated[Path, typer.Argument(help="Folder to work in; it is made, and kept to look at.")] = Path(
        "gramcli-demo"
    ),
) -> None:
    """Show the whole way in under a minute, offline: sounds, a small trained network, every command and its output."""
    from gramcli.demo import WEIGHTS, sounds

    manifest = folder / "sounds" / "manifest.csv"
    if folder.exists() and any(folder.iterdir()) and not manifest.is_file():
        raise UsageError(f"{shown(folder)}: is there and holds something else; name another folder")
    durable_files.make_folder(folder / "sounds")
    _say(f"Sounds of {len(sounds.CLASSES)} classes are made in {folder}; a small network trained on such comes along.")
    sounds.write(manifest.parent)
    shutil.copy(WEIGHTS, folder / WEIGHTS.name)
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    one = next(row for row in rows if row["split"] == "test")
    clip = f"sounds/{one['file']}"
    for why, command in (
        ("Every clip goes through the network once; each layer's descriptor is kept.",
         ["extract", "sounds/manifest.csv", "--weights", WEIGHTS.name]),
        ("Each class gets its bounds from the training clips.", ["calibrate"]),
        ("Layers are ranked on the validation clips.", ["select-layers"]),
        ("Each decision on test clips that none has seen, and which one to use.", ["evaluate"]),
        (f"One of these clips; its label is {one['label']}.", ["classify", clip]),
    ):  # fmt: skip
        _say(f"\n# {why}")
        render.out(f"$ {shlex.join(['gramcli', *command])}")
        done = subprocess.run([sys.executable, "-m", "gramcli", *command], cwd=folder, env=_environment(), check=False)
        if done.returncode:
            raise typer.Exit(done.returncode)
    _say(f"\nAll of it is in {folder}; next: gramcli cache info, or the same with your own recordings (see README).")


def _environment() -> dict[str, str]:
    """Returns an environment in which a child finds this very package."""
    package = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))}


def _say(text: str) -> None:
    for line in text.split("\n"):
        render.say(line)
