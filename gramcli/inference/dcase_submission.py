"""Writes the tab-separated file that the DCASE challenge accepts for acoustic scenes.

After a header it has one line per recording: ``filename`` (as in the challenge's own lists, ``audio/0.wav``),
``scene_label`` and, as task 1 asks since 2020, a probability for every class. Task 1 of 2019 asks for the first two
columns only. Names and labels are cells as `gramcli.cells` makes them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from gramcli import cells
from gramcli.errors import ResourceError, UsageError
from gramcli.system import durable_files, opener, output_file
from gramcli.text import shown

HEADER = ("filename", "scene_label")
"""The first columns, by which a submission is told from other files."""


class Predicted(Protocol):
    """Prediction of one window; see `gramcli.inference.classifier.Prediction`."""

    @property
    def path(self) -> str:
        """The recording."""

    @property
    def label(self) -> str | None:
        """None where the window could not be used."""

    @property
    def probabilities(self) -> Mapping[str, float] | None:
        """By class; None where the rule gives none."""


def submission(predictions: Iterable[Predicted], classes: Sequence[str]) -> str:
    """Returns the text of the file.

    The label of a recording with several windows is that of the largest mean probability. Where the rule gives no
    probabilities it is the most frequent label, the first one of several. A recording without a usable window has no
    line.

    Args:
        predictions: Windows, in any order.
        classes: Labels, in the order of the columns.

    Raises:
        UsageError: A tab or a line break in a name, which the format cannot hold, or one name for two recordings.
    """
    windows: dict[str, list[Predicted]] = {}
    for one in predictions:
        if one.label is not None:
            windows.setdefault(one.path, []).append(one)
    chances = {path: _mean(found, classes) for path, found in windows.items()}
    with_chances = bool(chances) and all(chances.values())
    lines = [[*HEADER, *(classes if with_chances else ())]]
    named: dict[str, str] = {}
    for path, found in windows.items():
        name = "/".join(Path(path).parts[-2:]) if Path(path).parent.name else path
        if (other := named.setdefault(name, path)) != path:
            raise UsageError(f"{shown(other)} and {shown(path)} would both be {shown(name)} in the submission")
        chance = chances[path]
        if with_chances and len(found) > 1:
            label = classes[max(range(len(classes)), key=chance.__getitem__)]
        else:
            label = Counter(str(one.label) for one in found).most_common(1)[0][0]
        lines.append([name, label, *(f"{value:.6f}" for value in (chance if with_chances else ()))])
    for line in lines:
        for cell in line:
            if any(mark in cell for mark in "\t\r\n"):
                raise UsageError(f"{shown(cell)}: a tab or a line break cannot stand in a submission; rename it")
    return "".join(cells.line(line, "\t") for line in lines)


def require_writable(path: Path) -> None:
    """Checks that a submission can be written under this name, before the work for it is done.

    Raises:
        UsageError: Something is there that is no submission, or no file can be there.
        ResourceError: The folder cannot be written, or the file that is there cannot be read.
    """
    output_file.require_writable(path)
    begin = "\t".join(HEADER).encode()
    try:
        with os.fdopen(opener.open_file(path), "rb") as file:
            own = file.read(len(begin) + 1).rstrip(b"\t\r\n") == begin
    except FileNotFoundError:
        return
    except OSError as error:
        raise ResourceError(f"{shown(path)}: cannot be read: {error.strerror}") from None
    if not own:
        raise UsageError(f"{shown(path)}: exists and is no submission of gramcli; name another file")


def write(path: Path, predictions: Iterable[Predicted], classes: Sequence[str]) -> None:
    """Writes the file, whole or not at all; see `submission`.

    Raises:
        UsageError: See `submission`; or another file is there by now.
        ResourceError: It cannot be written.
    """
    require_writable(path)
    durable_files.write(path, submission(predictions, classes).encode("utf-8", "surrogateescape"))


def _mean(found: Sequence[Predicted], classes: Sequence[str]) -> list[float]:
    """Returns the mean probability of each class over windows; nothing where one has none."""
    known = [one.probabilities for one in found if one.probabilities is not None]
    if len(known) < len(found):
        return []
    return [sum(one.get(label, 0.0) for one in known) / len(known) for label in classes]
