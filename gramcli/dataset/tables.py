"""Reads manifests that are tables: CSV, TSV or JSONL. Columns are recognised by their usual names, as in `ALIASES`.

Cells of CSV and TSV are read as `gramcli.cells` writes them, so that what gramcli has written comes back as it was.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gramcli import json_values
from gramcli.cells import original
from gramcli.dataset import table_file
from gramcli.dataset.clip import SPLITS
from gramcli.dataset.splits import split_named
from gramcli.errors import NoInputError, UsageError
from gramcli.text import shown

ALIASES = {
    "file": ("filename", "file_name", "path", "file", "audio"),
    "label": ("label", "category", "class", "scene_label"),
    "split": ("split", "subset"),
    "fold": ("fold",),
    "group": ("group", "source", "identifier"),
    "start": ("start", "onset"),
    "end": ("end", "offset"),
}
"""Names that the column of a role may have, in upper or lower case; of several, the first in this list counts."""
DELIMITERS = "\t,;|"
"""Characters that may separate the cells of a CSV or TSV file. The header decides which one does."""
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
"""Endings of the files that are read as one JSON object per line; all others are read as CSV or TSV."""
LONGEST = 10_000
"""Characters of a file name, label or group; the csv module reads no cell of more than 131,072."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a manifest, before its file is looked for."""

    origin: str
    """File and line of the row, as ``meta.csv:17``."""
    file: str
    label: str = ""
    split: str = ""
    """train, validation, test, or empty."""
    group: str = ""
    start: float | None = None
    """In seconds."""
    end: float | None = None


@dataclass(frozen=True)
class _Table:
    name: str
    columns: dict[str, str]
    """Names of the columns as the table spells them, by role; see `ALIASES`."""
    rows: list[tuple[str, dict[str, str]]]
    """Origin and cells of each row."""
    notes: list[str]


def read(
    path: Path, validation_fold: str | None = None, test_fold: str | None = None, *, labelled: bool = True
) -> tuple[list[Entry], list[str]]:
    """Reads a manifest.

    Args:
        path: CSV or TSV with a header, or JSONL.
        validation_fold: Value of the fold column that becomes the validation split; of the split column if there is no
            fold column.
        test_fold: Value of the same column that becomes the test split.
        labelled: Whether there must be a column of labels.

    Returns:
        Entries, and notes on how the table was read.

    Raises:
        NoInputError: The table cannot be read, or has no rows.
        UsageError: A column is missing, or a row cannot be understood.
    """
    table = _table(path)
    for role in ("file", "label") if labelled else ("file",):
        if role not in table.columns:
            names = ", ".join(f"'{shown(column)}'" for column in table.rows[0][1])
            raise UsageError(f"{table.name}: no column of {role}s ({', '.join(ALIASES[role])}) among {names}")
    if "end" in table.columns and "start" not in table.columns:
        raise UsageError(f"{table.name}: a column '{table.columns['end']}' needs a column 'start' or 'onset'")
    splits, notes = _splits(table, validation_fold, test_fold)
    entries = [_entry(table, *row, split) for row, split in zip(table.rows, splits, strict=True)]
    return entries, table.notes + notes


def folds(path: Path) -> set[str]:
    """Returns the values of the fold column of a manifest.

    Raises:
        NoInputError: The table cannot be read, or has no rows.
        UsageError: It has no fold column, or a row no value there.
    """
    table = _table(path)
    if "fold" not in table.columns:
        raise UsageError(f"{table.name}: has no fold column")
    return set(_values(table, table.columns["fold"]))


def _table(path: Path) -> _Table:
    name, text = shown(path.name), table_file.read(path)
    rows = list((_jsonl if path.suffix.lower() in JSON_SUFFIXES else _csv)(name, text))
    if not rows:
        raise NoInputError(f"{shown(path)}: has no rows")
    columns, notes = _columns(name, dict.fromkeys(column for _, cells in rows for column in cells))
    return _Table(name, columns, rows, notes)


def _columns(name: str, header: Sequence[str] | dict[str, None]) -> tuple[dict[str, str], list[str]]:
    spelt = {column.strip().lower(): column for column in reversed(list(header))}
    columns, notes = {}, []
    for role, aliases in ALIASES.items():
        present = [spelt[alias] for alias in aliases if alias in spelt]
        if present:
            columns[role] = present[0]
        if present[1:]:
            others = ", ".join(f"'{column}'" for column in present[1:])
            notes.append(f"{name}: column '{present[0]}' is used as the {role}, {others} is not used")
    return columns, notes


def _csv(name: str, text: str) -> Iterator[tuple[str, dict[str, str]]]:
    lines = text.lstrip("\r\n")
    skipped = text.count("\n", 0, len(text) - len(lines))
    reader = csv.reader(io.StringIO(lines, newline=""), delimiter=_delimiter(lines), strict=True)
    header: list[str] = []
    while True:
        line = skipped + reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UsageError(f"{name}:{line}: {error}") from None
        if cells is None:
            return
        if not header:
            header = [original(cell.strip()) for cell in cells]
            for column, count in Counter(header).items():
                if count > 1:
                    raise UsageError(f"{name}:{line}: {count} columns are called '{shown(column)}'; rename all but one")
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) < len(header) or any(cells[len(header) :]):
            raise UsageError(f"{name}:{line}: {len(cells)} fields where the header has {len(header)}")
        yield f"{name}:{line}", {column: original(cell.strip()) for column, cell in zip(header, cells, strict=False)}


def _delimiter(text: str) -> str:
    """Returns the delimiter that splits the first line into the most names of `ALIASES`."""
    header = text[: LONGEST * 10].splitlines()[0] if text else ""
    names = {alias for aliases in ALIASES.values() for alias in aliases}

    def recognised(delimiter: str) -> int:
        return sum(cell.strip(' "').lower() in names for cell in header.split(delimiter))

    return max(DELIMITERS, key=lambda delimiter: (recognised(delimiter), header.count(delimiter)))


def _jsonl(name: str, text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for number, line in enumerate(io.StringIO(text), 1):
        if not line.strip():
            continue
        try:
            values = json_values.parse(line)
        except json_values.RefusedJsonError as error:
            raise UsageError(f"{name}:{number}: is not a JSON object that can be used: {error}") from None
        except ValueError:
            raise UsageError(f"{name}:{number}: is not one JSON object per line") from None
        if not isinstance(values, dict):
            raise UsageError(f"{name}:{number}: is not a JSON object")
        cells = {key: _text(value) for key, value in values.items()}
        if not all(map(_storable, (*cells, *cells.values()))):
            raise UsageError(f"{name}:{number}: holds a NUL character or an unpaired surrogate")
        yield f"{name}:{number}", cells


def _storable(text: str) -> bool:
    """Tells whether a text can be a file name; JSON can hold NUL and unpaired surrogates, which cannot."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _text(value: Any) -> str:
    """Returns a JSON value as the cell of a table."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value.strip() if isinstance(value, str) else json.dumps(value)


def _splits(table: _Table, validation_fold: str | None, test_fold: str | None) -> tuple[list[str], list[str]]:
    """Returns the split of each row, and notes on how it was found."""
    split, fold = table.columns.get("split"), table.columns.get("fold")
    if validation_fold is not None or test_fold is not None:
        column = fold or split
        if column is None:
            raise UsageError(f"{table.name}: has no fold column for data.validation_fold and data.test_fold")
        notes = [f"{table.name}: splits are made of '{fold}', '{split}' is not used"] if fold and split else []
        return _from_folds(table, column, validation_fold, test_fold), notes
    values = {cells.get(fold, "") for _, cells in table.rows} - {""} if fold else set()
    if fold and not split and values and all(map(split_named, values)):
        split = fold  # a fold column of split names is a split column
    if split:
        return [_named(origin, cells.get(split, "")) for origin, cells in table.rows], []
    if not fold:
        return [""] * len(table.rows), []
    return [""] * len(table.rows), [
        f"{table.name}: '{fold}' is ignored ({len(values)} values); "
        "data.validation_fold and data.test_fold would make splits of it"
    ]


def _from_folds(table: _Table, column: str, validation: str | None, test: str | None) -> list[str]:
    folds = _values(table, column)
    if validation == test:
        raise UsageError(f"data.validation_fold and data.test_fold are both '{shown(test)}'; they must differ")
    some = ", ".join(sorted(shown(fold) for fold in set(folds) - {""})[:20])
    for key, fold in (("validation_fold", validation), ("test_fold", test)):
        if fold is not None and fold not in folds:
            raise UsageError(
                f"{table.name}: '{column}' has no value '{shown(fold)}' (data.{key}); its values are {some}"
            )
    return ["validation" if fold == validation else "test" if fold == test else "train" for fold in folds]


def _values(table: _Table, column: str) -> list[str]:
    values = [cells.get(column, "") for _, cells in table.rows]
    if "" in values:
        raise UsageError(f"{table.rows[values.index('')][0]}: no value in '{column}'")
    return values


def _named(origin: str, text: str) -> str:
    split = split_named(text) if text else ""
    if split is None:
        raise UsageError(
            f"{origin}: split '{shown(text)}' is none of {', '.join(SPLITS)}; "
            "for folds, set data.validation_fold and data.test_fold"
        )
    return split


def _entry(table: _Table, origin: str, cells: dict[str, str], split: str) -> Entry:
    def cell(role: str) -> str:
        return cells.get(table.columns.get(role, ""), "")

    if not cell("file"):
        raise UsageError(f"{origin}: no file name")
    for role in ("file", "label", "group"):
        if len(cell(role)) > LONGEST:
            raise UsageError(f"{origin}: a {role} of {len(cell(role))} characters; at most {LONGEST} are read")
    start, end = _seconds(origin, cell("start")), _seconds(origin, cell("end"))
    if end is not None:
        start = start or 0.0
        if end <= start:
            raise UsageError(f"{origin}: the stretch ends at {end:g} s, but begins at {start:g} s")
    return Entry(origin, cell("file"), cell("label"), split, cell("group"), start, end)


def _seconds(origin: str, text: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UsageError(f"{origin}: '{shown(text)}' is no time in seconds")
    return seconds
