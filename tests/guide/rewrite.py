"""Runs the console blocks of the README and the guide and writes what they print into the pages.

``python -m tests.guide.rewrite [--esc10 DATA --weights W.safetensors]``: without recordings the blocks on ESC-10 stay
as they are, and so do those that a study prints. Lines that a page leaves out (``...``) stay left out.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.guide import folders
from tests.guide.pages import ELISION, PAGES, Command, console_blocks, replaced
from tests.guide.terminal import difference, terminal
from tests.support import esc10


def renewed(command: Command, printed: Sequence[str]) -> list[str]:
    """Returns the output to show: that printed, without the lines that the page leaves out."""
    printed = [re.sub(r"\S*/gramcli/demo/network\.py", ".../gramcli/demo/network.py", line) for line in printed]
    segments = command.segments
    if len(segments) == 1:
        return list(printed)
    if difference(command, printed) is None:
        return list(command.output)
    shown = list(printed[: len(segments[0])])
    for lines in segments[1:-1]:
        first = _like(lines[0], printed)
        shown += [ELISION, *printed[first : first + len(lines)]]
    return [*shown, ELISION, *(printed[_like(segments[-1][0], printed) :] if segments[-1] else [])]


def _like(line: str, printed: Sequence[str]) -> int:
    """Returns the index of the printed line that begins with the same two words."""
    return next(n for n, one in enumerate(printed) if one.split()[:2] == line.split()[:2])


def main() -> None:
    """Rewrites the pages."""
    parser = argparse.ArgumentParser(prog="python -m tests.guide.rewrite", description=__doc__.partition("\n")[0])
    parser.add_argument("--esc10", type=Path, help="ESC-10: audio/ and meta.csv")
    parser.add_argument("--weights", type=Path, help="the resnet18 trained on its folds 2 to 4")
    parser.add_argument("--page", action="append", help="name of a page; all if left out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        project: esc10.Project | None = None
        ready = folders.Folders(Path(root))
        for page in PAGES:
            if options.page and page.stem not in options.page:
                continue
            copies: dict[str, Path] = {}
            for block in console_blocks(page):
                of_esc10 = block.where == esc10.ESC10
                if block.kind != "run" or (of_esc10 and options.esc10 is None):
                    continue
                if of_esc10 and project is None:
                    project = esc10.make(Path(root, "esc10"), options.esc10, options.weights)
                if not of_esc10 and block.where not in copies:
                    copies[block.where] = ready.copy(block.where)
                body = ""
                for command in block.commands:
                    if of_esc10 and project is not None:
                        printed = project.printed[command.line]
                    else:
                        with folders.environment(block.where):
                            printed = terminal(command.arguments, copies[block.where])[1]
                    body += "\n".join([f"$ {command.line}", *renewed(command, printed)]) + "\n"
                page.write_text(replaced(page.read_text(encoding="utf-8"), block, body), encoding="utf-8")


if __name__ == "__main__":
    main()
