"""Splits many clips or classes into blocks, so that large arrays are in memory for few of them at a time."""

from __future__ import annotations

from collections.abc import Iterator


def blocks(count: int, numbers: int, most: int) -> Iterator[slice]:
    """Yields slices of clips or classes, in order.

    Args:
        count: Number of clips or classes.
        numbers: Numbers of one of them.
        most: Largest number of numbers in a block. A block has one clip or class at least.
    """
    step = max(1, most // max(numbers, 1))
    return (slice(first, min(first + step, count)) for first in range(0, count, step))
