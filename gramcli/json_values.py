"""JSON from outside: parses texts that anybody may have written, within bounds on depth and on the length of numbers.

Python's own parser takes a name twice, infinite numbers and any depth that the stack allows, and what it returns may
then break whatever walks through it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

DEEPEST = 64
"""Lists and objects that may lie within each other."""
MOST_LISTS = 2_000_000
"""Lists and objects in one text; each takes some 60 bytes, so that empty ones would fill the memory."""
MOST_DIGITS = 40
"""Digits of a whole number. What gramcli stores, such as nanoseconds and sizes in bytes, has at most 20."""


class RefusedJsonError(ValueError):
    """A JSON text that is valid, but refused: too deep, a number too long or not finite, or a name given twice."""


def parse(text: str | bytes | bytearray, *, finite: bool = True) -> Any:
    """Returns the value of a JSON text.

    Args:
        text: The text; bytes must be UTF-8.
        finite: Whether to refuse NaN and infinite numbers.

    Raises:
        RefusedJsonError: It is JSON, but beyond the bounds of this module.
        ValueError: It is no JSON.
    """
    if isinstance(text, bytes | bytearray):
        text = text.decode()
    brackets = text.count("[") + text.count("{")  # more than there are lists, if they stand in strings, too
    if brackets > MOST_LISTS:
        raise RefusedJsonError(f"more than {MOST_LISTS} lists and objects")
    try:
        value = json.loads(
            text,
            parse_int=_whole,
            parse_float=_finite if finite else float,
            parse_constant=_constant if finite else float,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise _too_deep(DEEPEST) from None
    if brackets > DEEPEST:
        require_shallow(value)
    return value


def require_shallow(value: Any, deepest: int = DEEPEST) -> None:
    """Checks how deep lists and tables of a value lie within each other.

    Raises:
        RefusedJsonError: Deeper than `deepest`.
    """
    level = [value]
    for _ in range(deepest + 1):
        level = [
            child
            for one in level
            if isinstance(one, Mapping | list | tuple)
            for child in (one.values() if isinstance(one, Mapping) else one)
            if isinstance(child, Mapping | list | tuple)
        ]
        if not level:
            return
        level = list({id(one): one for one in level}.values())  # a list within itself many times is seen once
    raise _too_deep(deepest)


def _too_deep(deepest: int) -> RefusedJsonError:
    return RefusedJsonError(f"lists and objects lie within each other more than {deepest} deep")


def _whole(text: str) -> int:
    if (digits := len(text.lstrip("-"))) > MOST_DIGITS:
        raise RefusedJsonError(f"a number of {digits} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise RefusedJsonError("a number that is not finite")
    return number


def _constant(text: str) -> float:
    raise RefusedJsonError(f"the number {text}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise RefusedJsonError("a name is given twice in one object")
    return values
