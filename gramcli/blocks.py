"""Splits many clips or classes into blocks, so that large arrays are in memory for few of them at a time."""

from __future__ import annotations

from collections.abc import Iterator


def blocks(count: int, numbers_per_item: int, max_numbers: int) -> Iterator[slice]:
    """Yields slices of clips or classes, in order.

    Args:
        count: Number of clips or classes.
        numbers_per_item: How many numbers the arrays hold for one clip or class.
        max_numbers: How many numbers a block may have. A block with one clip or class may have more.
    """
    step = max(1, max_numbers // max(numbers_per_item, 1))
    return (slice(first, min(first + step, count)) for first in range(0, count, step))
