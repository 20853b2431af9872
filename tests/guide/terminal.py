"""Runs a command in this process as on a terminal of 80 columns, and compares what it prints with what a page shows."""

from __future__ import annotations

import os
import pty
import re
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from gramcli.cli.app import run
from tests.guide.pages import Command

_VARYING = (
    (re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]"), ""),
    (re.compile(r"\b\d+(\.\d+)? (s|min|h)\b"), "T s"),
    (re.compile(r"\(\d+ threads\)"), "(N threads)"),
    (re.compile(r"\S*/gramcli/demo/network\.py"), ".../gramcli/demo/network.py"),
    (re.compile(r"\d+\.\d+\.\d+[\w.+]*"), "V"),
    (re.compile(r"[\d.]+ [KMG]iB\b"), "SIZE"),
    (re.compile(r"denominator of \d+"), "denominator of N"),
    (re.compile(r"\d{8}T\d{6}-\d+"), "RUN"),
)
"""What differs from run to run or from machine to machine."""

_TOKEN = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?|[^\s\d]+?(?=[-+]?\d|\s|$)|\S")

ABSOLUTE, RELATIVE, POINTS = 0.03, 0.03, 3.0
"""How far numbers with a point may be from those shown, as another processor may decide one clip of a few otherwise;
those of one place, which are percent and points, by more. Whole numbers are exact."""


def terminal(arguments: Sequence[str], folder: Path) -> tuple[int, list[str]]:
    """Runs a command with a terminal as both outputs; returns its exit code and the lines there, without empty ones."""
    words = [found for word in arguments for found in (_expanded(word, folder) or [word])]
    master, slave = pty.openpty()
    parts: list[bytes] = []

    def collect() -> None:
        while True:
            try:
                part = os.read(master, 1 << 16)
            except OSError:  # EIO: the other end is closed
                return
            if not part:
                return
            parts.append(part)

    reader = threading.Thread(target=collect)
    reader.start()
    before, streams, saved = Path.cwd(), (sys.stdout, sys.stderr), (os.dup(1), os.dup(2))
    environment = {name: os.environ.get(name) for name in ("TERM", "COLUMNS", "PAGER")}
    for stream in streams:
        stream.flush()
    try:
        os.chdir(folder)
        # a dumb terminal has 80 columns and no progress bars
        os.environ.update({"TERM": "dumb", "PAGER": "cat"})
        os.environ.pop("COLUMNS", None)
        os.dup2(slave, 1)
        os.dup2(slave, 2)
        sys.stdout = open(1, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False, encoding="utf-8", buffering=1)  # noqa: SIM115
        code = run(words)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        sys.stdout, sys.stderr = streams
        for number, copy in enumerate(saved, start=1):
            os.dup2(copy, number)
            os.close(copy)
        os.close(slave)
        os.chdir(before)
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    reader.join(timeout=10)
    os.close(master)
    text = b"".join(parts).decode("utf-8", "replace").replace("\r\n", "\n")
    # a progress bar leaves an empty line on a dumb terminal
    return code, [line.rstrip() for line in text.splitlines() if line.strip()]


def _expanded(word: str, folder: Path) -> list[str]:
    """Returns the files of a pattern, as a shell gives them to a command."""
    return sorted(str(path.relative_to(folder)) for path in folder.glob(word)) if "*" in word and "/" in word else []


def tokens(lines: Sequence[str]) -> list[str]:
    """Returns words and numbers, without what varies and without where lines end."""
    text = " ".join(lines)
    for pattern, replacement in _VARYING:
        text = pattern.sub(replacement, text)
    return _TOKEN.findall(text)


def _alike(shown: str, printed: str) -> bool:
    if shown == printed:
        return True
    try:
        one, other = float(shown), float(printed)
    except ValueError:
        return False
    if "." not in shown + printed:
        return False
    percent = all(re.fullmatch(r"[-+]?\d+\.\d", text) for text in (shown, printed))
    return abs(one - other) <= (POINTS if percent else ABSOLUTE) + RELATIVE * abs(one)


def difference(command: Command, printed: Sequence[str]) -> str | None:
    """Returns where what a page shows differs from what was printed; None where it does not."""
    segments = command.segments
    have = tokens(printed)
    at = 0
    for number, lines in enumerate(segments):
        want = tokens(lines)
        last = number == len(segments) - 1
        if last and len(segments) > 1:
            starts = [len(have) - len(want)]
        elif number == 0:
            starts = [0]
        else:
            starts = list(range(at, len(have) - len(want) + 1))
        best = 0
        for start in starts:
            seen = have[max(start, 0) : max(start, 0) + len(want)]
            same = next((n for n, pair in enumerate(zip(want, seen, strict=False)) if not _alike(*pair)), len(seen))
            best = max(best, same)
            if start >= at and same == len(want):
                at = start + len(want)
                break
        else:
            return f"$ {command.line}: {' '.join(want[max(best - 6, 0) : best + 3])!r} is shown, but printed was\n" + (
                "\n".join(printed)
            )
    if len(segments) == 1 and at != len(have):
        return f"$ {command.line}: also printed was {' '.join(have[at : at + 12])!r}"
    return None
