"""Text for people: names escaped for one line of a message, and labels in natural order."""

from __future__ import annotations

import re
from collections.abc import Iterable


def shown(name: object) -> str:
    r"""Returns a file name or label for one line of a message, with control characters and odd bytes escaped.

    >>> shown("a\nb.wav")
    'a\\nb.wav'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in str(name))


def natural_sorted(labels: Iterable[str]) -> list[str]:
    """Sorts labels with their numbers by value, upper case before lower: ``A, a2, a10``."""

    def key(label: str) -> tuple[list[tuple[int, int, str]], str]:
        parts = re.split(r"([0-9]+)", label)
        return [(0, int(part), "") if i % 2 else (1, 0, part) for i, part in enumerate(parts)], label

    return sorted(labels, key=key)
