"""Prints results as tables or records on stdout, and progress and notes on stderr.

All that is printed for people is escaped here (`gramcli.text.shown`), whether or not the caller has done so.
"""

from __future__ import annotations

import json
import math
import re
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from gramcli import cells
from gramcli.cli import streams
from gramcli.text import shortened, shown

SCHEMA_VERSION = 1
"""Version of the JSON documents, their field ``format``."""

_MIN_WIDTH = 8
"""Smallest width of a column that is shortened, in characters."""
_NARROWEST = 20
"""Width for which lines are broken on a terminal that is narrower, or that claims to have no width."""
_LONGEST = 2000
"""Longest message on stderr, in characters: it may hold a path or an argument of any length."""


class Format(StrEnum):
    """How results are written to stdout."""

    table = "table"
    csv = "csv"
    json = "json"
    jsonl = "jsonl"


def output_format(format: Format | None, as_json: bool) -> Format:
    """Returns the format that was asked for; by default a table on a terminal, and CSV elsewhere."""
    if as_json:
        return Format.json
    return format or (Format.table if streams.stdout_is_terminal() else Format.csv)


def json_value(value: Any) -> Any:
    """Returns a JSON value; numbers that are not finite become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): json_value(one) for key, one in value.items()}
    return [json_value(one) for one in value] if isinstance(value, list | tuple) else value


def print_json(content: Mapping[str, Any]) -> None:
    """Writes one JSON document to stdout."""
    print_line(_json(content, indent=2))


def _json(value: Any, indent: int | None = None) -> str:
    r"""Returns JSON in which all but printable characters are written as ``\uXXXX``: for a program the same text.

    A byte of a name that is not UTF-8 is the surrogate that stands for it in Python, ``\udc80`` to ``\udcff``.
    """
    return _UNUSUAL.sub(_escaped, json.dumps(json_value(value), indent=indent, ensure_ascii=False))


_UNUSUAL = re.compile(r"[^\n -~]")


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    return character if character.isprintable() else json.dumps(character)[1:-1]


def print_line(line: str) -> None:
    """Writes one line to stdout as it is; bytes that are not UTF-8 are written as they were read."""
    streams.write(f"{line}\n")


def print_text(text: str) -> None:
    """Writes a sentence to stdout; on a terminal, lines are broken between words."""
    text = shown(text)
    print_line(_wrapped(text) if streams.stdout_is_terminal() else text)


def _wrapped(text: str) -> str:
    """Breaks a line between words to fit the terminal; a longer word, such as a path, is not broken."""
    return textwrap.fill(text, max(Console().width, _NARROWEST), break_long_words=False, break_on_hyphens=False)


def rows(
    columns: Sequence[str],
    records: Iterable[Mapping[str, Any]],
    format: Format,
    *,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Writes records in one of the formats; CSV and JSON lines are written record by record.

    Args:
        columns: Keys of a record, in order.
        records: The rows.
        format: The format.
        about: Further fields of the JSON document.
    """
    if format is Format.json:
        print_json({"format": SCHEMA_VERSION, **(about or {}), "rows": [dict(record) for record in records]})
    elif format is Format.jsonl:
        for record in records:
            print_line(_json(record))
    elif format is Format.csv:
        streams.write(cells.line(columns))
        for record in records:
            streams.write(cells.line(_exact(record[column]) for column in columns))
    else:
        table(columns, records)


def table(columns: Sequence[str], records: Iterable[Mapping[str, Any]], *, title: str = "", shrink: str = "") -> None:
    """Writes a table that fits the terminal.

    Args:
        columns: Keys of a record, in order.
        records: The rows.
        title: A line above the table.
        shrink: Column that is shortened at its left if the table is too wide.
    """
    if title:
        print_text(title)
    records = list(records)
    console = Console(highlight=False)
    texts = {column: [_cell(record[column]) for record in records] for column in columns}
    if shrink:
        others = [max(map(cell_len, [name, *column])) + 2 for name, column in texts.items() if name != shrink]
        room = max(console.width - sum(others), cell_len(shrink), _MIN_WIDTH)
        texts[shrink] = [_tail(text, room) for text in texts[shrink]]
    grid = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    for column in columns:
        number = all(isinstance(record[column], int | float | None) for record in records) and bool(records)
        grid.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in zip(*texts.values(), strict=True):
        grid.add_row(*map(Text, row))
    with console.capture() as printed:
        console.print(grid)
    for line in printed.get().rstrip("\n").split("\n"):
        print_line(line.rstrip())


def _tail(text: str, room: int) -> str:
    """Returns the end of a text, in which file names differ most."""
    if cell_len(text) <= room:
        return text
    width = 1  # of the mark in front
    for start in range(len(text) - 1, -1, -1):
        width += cell_len(text[start])
        if width > room:
            return f"…{text[start + 1 :]}"
    return text


def _exact(value: Any) -> str:
    """Returns the text of a cell of a CSV file: numbers with all digits."""
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    if value is None or isinstance(value, int):
        return _cell(value)
    return shown(value) if streams.stdout_is_terminal() else str(value)


def _cell(value: Any) -> str:
    """Returns a cell of a table for people."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.3g}" if isinstance(value, float) else shown(value)


def size(count: float) -> str:
    """Returns a number of bytes in a readable unit."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} GiB"


def duration(seconds: float) -> str:
    """Returns a duration in a readable unit."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def print_stderr(kind: str, text: str) -> None:
    """Writes one line to stderr; on a terminal, it is broken between words."""
    line = _message(kind, text)
    streams.write_error(f"{_wrapped(line) if streams.stderr_is_terminal() else line}\n")


def _message(kind: str, text: str) -> str:
    return shortened(shown(f"{kind}: {' '.join(text.split())}"), _LONGEST)


class Bar:
    """Progress on stderr: a bar with rate, time left and failures, or a line every 30 s where there is no terminal."""

    _EVERY_S = 30.0

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task: Any = None
        self._name, self._total, self._done, self._failed = "", 0, 0, 0
        self._began = self._printed = time.monotonic()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def start(self, task: str, total: int) -> None:
        """See `gramcli.progress.Progress`."""
        self._stop()
        self._name, self._total, self._done, self._failed = task, total, 0, 0
        self._began = self._printed = time.monotonic()
        if self._console.is_terminal and not self._quiet and total:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]:.1f}/s"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[failures]}"),
                console=self._console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(task, total=total, rate=0.0, failures="")

    def advance(self, steps: int, failed: int = 0) -> None:
        """See `gramcli.progress.Progress`."""
        self._done += steps
        self._failed += failed
        now = time.monotonic()
        rate = self._done / max(now - self._began, 1e-9)
        if self._bar is not None:
            failures = f"{self._failed} failed" if self._failed else ""
            self._bar.update(self._task, advance=steps, rate=rate, failures=failures)
        elif not self._quiet and now - self._printed >= self._EVERY_S:
            self._printed = now
            left = f"{(self._total - self._done) / rate:.0f} s left, " if rate else ""
            print_stderr(self._name, f"{self._done} of {self._total}, {rate:.1f}/s, {left}{self._failed} failed")

    def note(self, text: str) -> None:
        """See `gramcli.progress.Progress`."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(Text(_message("note", text)))
        else:
            print_stderr("note", text)

    def warn(self, text: str) -> None:
        """See `gramcli.progress.Progress`."""
        if self._bar is not None:
            self._bar.console.print(Text(f"note: {text}"))
            self._bar.console.file.flush()
        else:
            print_stderr("note", text)
