"""Runs the four commands of README's ESC-10 project once, and gives its settings and output to all tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.guide.pages import PAGES, console_blocks, fenced
from tests.guide.terminal import terminal

README = PAGES[0]
ESC10 = "esc10"
"""Folder that README's blocks name."""


@dataclass(frozen=True)
class Project:
    """The folder, and what README's commands printed in it."""

    folder: Path
    printed: Mapping[str, Sequence[str]]
    """Lines by command line."""


def make(folder: Path, data: Path, weights: Path) -> Project:
    """Runs README's commands in a new folder.

    Args:
        folder: The folder.
        data: ESC-10: audio/ and meta.csv.
        weights: The resnet18 trained on its folds 2 to 4.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "esc10").symlink_to(data.absolute(), target_is_directory=True)
    (folder / "resnet18.safetensors").symlink_to(weights.absolute())
    (folder / "gramcli.toml").write_text(fenced(README, "toml")[0])
    printed = {}
    for block in console_blocks(README):
        for command in block.commands if block.where == ESC10 else ():
            code, lines = terminal(command.arguments, folder)
            if code:
                raise RuntimeError(f"gramcli {command.line}: exit {code}\n" + "\n".join(lines))
            printed[command.line] = lines
    return Project(folder, printed)


@pytest.fixture(scope="session")
def esc10(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project; not to be changed. Skips the test where the recordings are not beside the project."""
    from tests.conftest import shared

    return make(
        tmp_path_factory.mktemp("esc10") / "project",
        shared("data", "esc10"),
        shared("models", "esc10_fold5_resnet18.safetensors"),
    )
