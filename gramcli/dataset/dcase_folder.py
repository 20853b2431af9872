"""Reads a folder laid out as in the DCASE challenge: ``meta.csv`` beside ``evaluation_setup/fold1_*.csv``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from gramcli.dataset import tables
from gramcli.dataset.tables import Entry
from gramcli.errors import UsageError
from gramcli.text import shown

SETUP = "evaluation_setup"


def is_folder(folder: Path) -> bool:
    """Tells whether a folder is laid out as the DCASE challenge does."""
    return (folder / SETUP / "fold1_train.csv").is_file()


def read(folder: Path) -> tuple[list[Entry], list[str]]:
    """Reads the official splits and joins them with ``meta.csv`` by file name.

    Labels come from the setup files, groups (column ``identifier``: where a recording was made) from ``meta.csv``.
    Clips of ``fold1_test.csv`` have no label; it is read only where ``fold1_evaluate.csv`` is missing.

    Returns:
        Entries with their splits, and notes on how the folder was read.

    Raises:
        NoInputError: A file cannot be read, or has no rows.
        UsageError: A row cannot be understood, or two files give one clip different labels.
    """
    setup = folder / SETUP
    table = folder / "meta.csv"
    described, notes = tables.read(table, labelled=False) if table.is_file() else ([], [])
    meta = {entry.file: entry for entry in described}
    evaluate = setup / "fold1_evaluate.csv"
    parts = {
        "train": setup / "fold1_train.csv",
        "validation": setup / "fold1_validate.csv",
        "test": evaluate if evaluate.is_file() else setup / "fold1_test.csv",
    }
    entries: list[Entry] = []
    counts, apart = [], 0
    for split, path in parts.items():
        if not path.is_file():
            continue
        found, more = tables.read(path, labelled=False)
        blind = path.name == "fold1_test.csv"
        entries += [_joined(entry, split, meta, blind) for entry in found]
        notes += more
        apart += sum(entry.file not in meta for entry in found)
        counts.append(f"{len(found)} {split} ({path.name}{', unlabelled' if blind else ''})")
    if apart:
        notes.append(f"{shown(folder.name)}: {apart} clips are not in a meta.csv; each is a group of its own")
    return entries, [f"{shown(folder.name)}: DCASE folder: {', '.join(counts)}", *notes]


def _joined(entry: Entry, split: str, meta: dict[str, Entry], blind: bool) -> Entry:
    described = meta.get(entry.file, entry)
    label = "" if blind else entry.label or described.label
    if not blind:
        if not label:
            raise UsageError(f"{entry.origin}: no label for '{shown(entry.file)}', here or in meta.csv")
        if described.label not in ("", label):
            raise UsageError(
                f"{described.origin} and {entry.origin}: '{shown(entry.file)}' has two labels, "
                f"'{shown(described.label)}' and '{shown(label)}'; keep one"
            )
    return dataclasses.replace(entry, split=split, label=label, group=entry.group or described.group)
