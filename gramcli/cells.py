"""Cells of CSV and TSV files: what a spreadsheet would run as a formula is written as text, and read back as it was.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-`` or ``@``, also in their full-width forms, or with one of
these after a tab or a line break. The rule is one for all files that gramcli writes: such a cell gets an apostrophe in
front, also if it begins with apostrophes already, unless it is a plain number. `original` takes one off again, so that
every text comes back as it was.
"""

from __future__ import annotations

import math
import re

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
