"""Text for people: names escaped for one line of a message, and labels in natural order.

What prints to a terminal (`gramcli.cli.render`) escapes all of it with `shown`, so that no caller can forget it. A
message of an error or a note escapes the names in it as well, since Python programs read it too; escaping twice
changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


def shown(name: object) -> str:
    r"""Returns a file name or label for one line of a message, with control characters and odd bytes escaped.

    >>> shown("a\nb.wav")
    'a\\nb.wav'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in str(name))


def shortened(text: str, most: int) -> str:
    """Returns a text of `most` characters at most, from whose middle the rest is left out."""
    head = most * 2 // 3
    return text if len(text) <= most else f"{text[:head]} … {text[len(text) - (most - head - 3) :]}"


def natural_sorted(labels: Iterable[str]) -> list[str]:
    """Sorts labels with their numbers by value, upper case before lower: ``A, a2, a10``."""

    def key(label: str) -> tuple[list[tuple[int, int, str]], str]:
        parts = re.split(r"([0-9]+)", label)
        return [_number(part) if i % 2 else (1, 0, part) for i, part in enumerate(parts)], label

    return sorted(labels, key=key)


def _number(digits: str) -> tuple[int, int, str]:
    """Returns what sorts digits by their value; Python refuses to make a number of more than 4,300 digits."""
    digits = digits.lstrip("0")
    return 0, len(digits), digits
