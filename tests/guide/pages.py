"""The README and the pages of the guide, and the console blocks in them.

A console block is preceded by a comment that says where its output comes from::

    <!-- run: demo -->                      runs in a test, in a folder that `tests.guide.folders` prepares
    <!-- study: tests.studies.figures -->   printed by a study, which takes too long for a test

Blocks of one page with the same folder run one after another in it.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from gramcli import guide
from tests.support.sets import ROOT

PAGES = (ROOT / "README.md", *(ROOT / "gramcli" / "guide" / f"{topic}.md" for topic in guide.TOPICS))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (run|study): ([\w.]+) -->\n$")
ELISION = "..."
"""A line that stands for any number of lines."""


@dataclass(frozen=True)
class Command:
    """A command that a user types, and what the page says it prints."""

    line: str
    output: tuple[str, ...]

    @property
    def arguments(self) -> list[str]:
        """What follows ``gramcli``."""
        program, *arguments = shlex.split(self.line)
        if program != "gramcli":
            raise ValueError(f"{self.line}: only gramcli's own commands stand in console blocks")
        return arguments

    @property
    def segments(self) -> list[list[str]]:
        """The lines of the output between those that stand for lines left out; one segment if nothing is left out."""
        segments: list[list[str]] = [[]]
        for line in self.output:
            if line.strip() == ELISION:
                segments.append([])
            else:
                segments[-1].append(line)
        return segments


@dataclass(frozen=True)
class Block:
    """One console block."""

    page: Path
    number: int
    """Line of the page where its first command stands, counted from 1."""
    kind: str
    """``run``, ``study``, or empty where the mark is missing."""
    where: str
    """Folder to run in, or the module of the study."""
    body: str

    @property
    def name(self) -> str:
        return f"{self.page.name}:{self.number}"

    @property
    def commands(self) -> tuple[Command, ...]:
        found: list[tuple[str, list[str]]] = []
        for line in self.body.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif not found:
                raise ValueError(f"{self.name}: output before the first command")
            else:
                found[-1][1].append(line)
        return tuple(Command(line, tuple(output)) for line, output in found)


def fenced(page: Path, language: str) -> list[str]:
    """Returns the bodies of the fenced blocks of a language."""
    return [body for word, body in _FENCE.findall(page.read_text(encoding="utf-8")) if word == language]


def console_blocks(page: Path) -> list[Block]:
    """Returns the console blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        if match[1] != "console":
            continue
        mark = _MARK.search(text[: match.start()])
        kind, where = (mark[1], mark[2]) if mark else ("", "")
        found.append(Block(page, text[: match.start(2)].count("\n") + 1, kind, where, match[2]))
    return found


def replaced(text: str, block: Block, body: str) -> str:
    """Returns the text of a page with another body of one of its blocks."""
    at = text.index(f"```console\n{block.body}```")
    return text[:at] + f"```console\n{body}```" + text[at + len(f"```console\n{block.body}```") :]
