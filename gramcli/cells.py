"""Cells of CSV and TSV files: what a spreadsheet would run as a formula is written as text, and read back as it was.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-`` or ``@``, also in their full-width forms, or with one of
these after a tab or a line break. The rule is one for all files that gramcli writes: such a cell gets an apostrophe in
front, unless it is a plain number. A cell that begins so after apostrophes gets one more. `original` takes one off
again, so that every text comes back as it was.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable

_STARTS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
_RUN = re.compile(f"'*[{re.escape(_STARTS)}]")
_ADDED = re.compile(f"'+[{re.escape(_STARTS)}]")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_FIRST = frozenset(f"'{_STARTS}")


def harmless(text: str) -> str:
    """Returns the cell for a text, with an apostrophe in front where a spreadsheet would run it.

    >>> harmless("=1+1"), harmless("-0.5"), harmless("dog")
    ("'=1+1", '-0.5', 'dog')
    """
    if text[:1] not in _FIRST or not _RUN.match(text):  # the first test is the fast one
        return text
    return text if _NUMBER.fullmatch(text) and math.isfinite(float(text)) else f"'{text}"


def original(cell: str) -> str:
    """Returns the text that `harmless` made a cell of."""
    return cell[1:] if cell[:1] == "'" and _ADDED.match(cell) else cell


def line(texts: Iterable[str], delimiter: str = ",") -> str:
    r"""Returns a line of a CSV or TSV file, with the cells of the texts and ``\n`` at its end.

    Also a carriage return in a text is put between quotes: else readers and spreadsheets would begin a new row there.

    >>> line(["=1+1", "a\rb", "-0.5"])
    '\'=1+1,"a\rb",-0.5\n'
    """
    written = io.StringIO()
    # Python before 3.13 quotes only those characters of line breaks that its own line breaks have
    csv.writer(written, delimiter=delimiter, lineterminator="\r\n").writerow(map(harmless, texts))
    return f"{written.getvalue()[:-2]}\n"
