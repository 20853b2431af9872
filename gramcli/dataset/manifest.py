"""Reads a manifest, the list of recordings with their labels; makes and checks their splits, and holds labels out.

A manifest is a folder with one folder per class, a table (CSV, TSV, JSONL), or a DCASE folder. All give the same rows.
"""

from __future__ import annotations

import dataclasses
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gramcli.audio.find import audio_files
from gramcli.dataset import dcase_folder, splits, tables
from gramcli.dataset.tables import Entry
from gramcli.errors import NoInputError, UnsafeError, UsageError
from gramcli.settings.schema import DataSettings
from gramcli.text import natural_sorted, shown

TABLES = tuple(
    f"{name}{suffix}" for name in ("manifest", "metadata", "meta") for suffix in (".csv", ".tsv", ".jsonl", ".ndjson")
)
"""Names of the table that a folder may hold in place of one folder per class."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the manifest: a recording, or a stretch of one."""

    id: str
    """POSIX path relative to the audio root, and ``@start-end`` for a stretch."""
    path: str
    """The audio file, absolute; it need not be there."""
    label: str
    """Empty if unlabelled."""
    split: str
    """train, validation, test; unknown for test clips whose label is held out; empty for a row that is not used."""
    group: str
    """Rows of one group share a split; by default, the rows of one file are a group."""
    start: float | None
    """In seconds; None for the start of the file."""
    end: float | None
    """In seconds; None for the end of the file."""
    origin: str
    """Where it is listed, as ``meta.csv:17``."""


@dataclass(frozen=True)
class Manifest:
    """All rows, and notes for the user on how they were read and split, one line each."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def read(data: DataSettings) -> Manifest:
    """Reads the manifest that the settings name, finds its files and makes the splits that it does not give.

    Splits are made and checked before labels are held out, so that holding out changes nothing for other labels.

    File names are relative to ``data.audio_root`` or, by default, to the manifest's folder; if more of the files lie
    in its subfolder ``audio``, they are relative to that. A missing file keeps its row as long as others are there. A
    manifest from elsewhere must not make this program read any file it names, so a file outside that folder is refused
    unless ``data.allow_outside`` is set. The same holds for a link in the folder that leads out of it.

    Raises:
        NoInputError: The manifest cannot be read or is empty, or no row resolves to a file.
        UsageError: The manifest contradicts itself or the settings; the rows are named.
        UnsafeError: A row names a file outside the folder.
    """
    manifest = _named(data)
    folder = manifest if manifest.is_dir() else manifest.parent
    entries, notes = _entries(manifest, data)
    root, missing_notes = _root(manifest, entries, os.path.normpath(Path(data.audio_root or folder).absolute()))
    if not data.allow_outside:
        _require_inside(entries, root)
    rows, repeated = _unique(_row(entry, root) for entry in entries)
    if repeated:
        notes.append(f"{repeated} of {len(entries)} rows are listed twice and taken once")
    completed, split_notes = splits.complete(
        [row.split for row in rows], [row.label for row in rows], [row.group for row in rows], data.seed
    )
    rows = [dataclasses.replace(row, split=split) for row, split in zip(rows, completed, strict=True)]
    unlabelled_notes = splits.check_labelled((row.origin, row.split, row.label) for row in rows)
    splits.check_disjoint((row.origin, row.split, row.label, row.group, row.id) for row in rows)
    remaining, held_out_notes = splits.hold_out([row.split for row in rows], [row.label for row in rows], data.hold_out)
    rows = [dataclasses.replace(row, split=split) for row, split in zip(rows, remaining, strict=True)]
    label_notes = _notes_on_similar_labels({row.label for row in rows})
    return Manifest(
        tuple(rows), (*notes, *missing_notes, *split_notes, *unlabelled_notes, *held_out_notes, *label_notes)
    )


def folds(data: DataSettings) -> list[str]:
    """Returns the values of the manifest's fold column, sorted, with numbers in the order of their values.

    Raises:
        NoInputError: The manifest cannot be read.
        UsageError: It is no table with a fold column.
    """
    manifest = _named(data)
    table = _table_in(manifest) if manifest.is_dir() else manifest.name
    if table is None:
        raise UsageError(f"{shown(manifest)}: has no fold column, as it is no table")
    return natural_sorted(tables.folds(manifest / table if manifest.is_dir() else manifest))


def _named(data: DataSettings) -> Path:
    if data.manifest is None:
        raise UsageError("no manifest named; give one as the argument, or set data.manifest in gramcli.toml")
    return Path(data.manifest).absolute()


def _entries(manifest: Path, data: DataSettings) -> tuple[list[Entry], list[str]]:
    if not manifest.is_dir():
        return tables.read(manifest, data.validation_fold, data.test_fold)
    table = _table_in(manifest)
    if table is not None:
        entries, notes = tables.read(manifest / table, data.validation_fold, data.test_fold)
        return entries, [f"{shown(manifest.name)}: read through its {table}, not as one folder per class", *notes]
    if data.validation_fold is not None or data.test_fold is not None:
        raise UsageError(f"{shown(manifest)}: has no fold column for data.validation_fold and data.test_fold")
    return dcase_folder.read(manifest) if dcase_folder.is_folder(manifest) else _folders(manifest)


def _table_in(folder: Path) -> str | None:
    """Returns the name of the table in a folder; None for a DCASE folder or one folder per class."""
    found = [] if dcase_folder.is_folder(folder) else [name for name in TABLES if (folder / name).is_file()]
    if len(found) > 1:
        raise UsageError(f"{shown(folder)}: holds {' and '.join(found)}; name the one to read")
    return found[0] if found else None


def _folders(root: Path) -> tuple[list[Entry], list[str]]:
    """Reads one folder per class; folders named after splits may stand above them."""
    files = [Path(file).relative_to(root) for file in audio_files([root])]
    depths = {len(file.parts): file for file in files}
    if len(depths) > 1:
        shallow, deep = depths[min(depths)], depths[max(depths)]
        raise UsageError(
            f"{shown(root)}: '{shown(shallow)}' and '{shown(deep)}' lie at different depths; "
            "put every file into the folder of its class, or list them in a manifest.csv"
        )
    depth = next(iter(depths))
    if depth == 1:
        raise UsageError(
            f"{shown(root)}: its audio files are not in folders; put them into one folder per class, or list them in a "
            "manifest.csv"
        )
    split_of = {file.parts[0]: splits.split_named(file.parts[0]) for file in files}
    named = [top for top, split in split_of.items() if split]
    if len(named) == len(split_of):
        if depth == 2:
            raise UsageError(f"{shown(root)}: its folders are splits; make one folder per class in each of them")
        notes = [f"{shown(root.name)}: splits are its folders {', '.join(natural_sorted(named))}"]
    elif depth > 2 and named:
        other = next(top for top, split in split_of.items() if not split)
        raise UsageError(
            f"{shown(root)}: '{named[0]}' is a split, '{shown(other)}' is not; name all as splits, or none"
        )
    else:
        notes, split_of = [], {}
    return [
        Entry(shown(file.as_posix()), file.as_posix(), file.parent.name, split_of.get(file.parts[0]) or "")
        for file in files
    ], notes


def _root(manifest: Path, entries: Sequence[Entry], root: str) -> tuple[str, list[str]]:
    """Returns the folder that file names are relative to, and a note if some files are missing."""
    roots = root, _path(root, "audio")
    base, missing = root, list(entries)
    for folder in roots:
        if missing:  # the second is tried only then
            absent = [entry for entry in entries if not os.path.exists(_path(folder, entry.file))]  # noqa: PTH110
            if len(absent) < len(missing):
                base, missing = folder, absent
    if len(missing) == len(entries):
        tried = (shown(_path(folder, entry.file)) for entry in entries for folder in roots)
        raise NoInputError(
            f"{shown(manifest)}: none of its {len(entries)} rows leads to a file; "
            f"tried {', '.join(islice(tried, 3))}; set data.audio_root (--audio-root)"
        )
    if not missing:
        return base, []
    first = f"{missing[0].origin}: '{shown(missing[0].file)}'"
    note = f"{len(missing)} of {len(entries)} rows lead to no file in {shown(base)}; the first is {first}"
    return base, [f"{note}; if they are elsewhere, set data.audio_root (--audio-root)"]


def _path(root: str, file: str) -> str:
    return os.path.normpath(os.path.join(root, file))  # noqa: PTH118 - pathlib takes five times as long


def _require_inside(entries: Iterable[Entry], root: str) -> None:
    """Raises an UnsafeError for the first file that lies outside the root, by its name or behind a link."""
    real_root = os.path.realpath(root)
    real_folders: dict[str, str] = {}  # a link is looked for once in each folder, and in the last part of each name
    for entry in entries:
        path = _path(root, entry.file)
        if not _is_below(path, root):
            raise UnsafeError(
                f"{entry.origin}: '{shown(entry.file)}' lies outside {shown(root)}; set data.audio_root (--audio-root) "
                "to a folder that holds all files, or give --allow-outside if you trust the manifest"
            )
        folder = os.path.dirname(path)  # noqa: PTH120 - pathlib takes five times as long
        if folder not in real_folders:
            real_folders[folder] = os.path.realpath(folder)
        real = os.path.realpath(path) if os.path.islink(path) else real_folders[folder]  # noqa: PTH114
        if real != real_root and not _is_below(real, real_root):
            raise UnsafeError(
                f"{entry.origin}: '{shown(entry.file)}' is a link that leads out of {shown(root)}; give "
                "--allow-outside if you trust it"
            )


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)


def _row(entry: Entry, root: str) -> Row:
    path = _path(root, entry.file)
    file = path[len(root.rstrip(os.sep)) + 1 :] if _is_below(path, root) else os.path.relpath(path, root)
    file = file.replace(os.sep, "/")
    stretch = ""
    if entry.start is not None:
        stretch = f"@{_plain(entry.start)}-{'' if entry.end is None else _plain(entry.end)}"
    group = entry.group or file
    return Row(file + stretch, path, entry.label, entry.split, group, entry.start, entry.end, entry.origin)


def _plain(seconds: float) -> str:
    """Returns seconds to the microsecond, without trailing zeros or an exponent."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _unique(rows: Iterable[Row]) -> tuple[list[Row], int]:
    """Keeps the first row of each clip, and counts the others; two labels or splits of one clip are refused."""
    first: dict[str, Row] = {}
    repeated = 0
    for row in rows:
        earlier = first.setdefault(row.id, row)
        if earlier is row:
            continue
        repeated += 1
        for what, a, b in (("labels", earlier.label, row.label), ("splits", earlier.split, row.split)):
            if a != b:
                raise UsageError(
                    f"{earlier.origin} and {row.origin}: '{shown(row.id)}' is listed with two {what}, "
                    f"'{shown(a)}' and '{shown(b)}'; keep one"
                )
    return list(first.values()), repeated


def _notes_on_similar_labels(labels: Iterable[str]) -> list[str]:
    """Returns notes on labels that differ only in case or in how Unicode spells them."""
    seen: dict[str, str] = {}
    notes = []
    for label in natural_sorted(labels):
        other = seen.setdefault(unicodedata.normalize("NFC", label).casefold(), label)
        if other != label:
            notes.append(f"labels '{shown(other)}' and '{shown(label)}' are two classes, though they look alike")
    return notes
