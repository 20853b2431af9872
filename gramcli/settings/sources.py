"""Sources of settings: reads them, checks their values, and puts them together.

If several sources give a value, the one furthest to the right wins::

    defaults < checkpoint metadata < earlier extract < gramcli.toml < GRAMCLI_<SECTION>_<KEY> < preset < flags
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gramcli import json_values
from gramcli.errors import ArtefactError, UsageError
from gramcli.settings.schema import SECTIONS, NetworkSettings, Settings, fields, section_type
from gramcli.text import shown

DEEPEST_TABLE = 32
"""Lists and tables that may lie within each other in a table such as network.args."""
LONGEST_TABLE = 100_000
"""Characters of such a table as JSON."""
_SHOWN = 200
"""Characters of a wrong value that a message repeats."""


@dataclass(frozen=True)
class Source:
    """Checked values from one source, by section and key."""

    origin: str
    """Where the values come from, as shown in errors."""
    values: Mapping[str, Mapping[str, Any]]
    by_user: bool = False
    """Whether the user gave them: by flags, in the environment, or from Python. Anybody may have written a file."""


def convert(section: str, key: dataclasses.Field[Any], value: Any, origin: str, folder: Path) -> Any:
    """Checks one value, given as text or as a TOML or JSON value, and converts it to its type.

    Args:
        section: Name of the section.
        key: The field.
        value: Text from a flag or the environment, or a typed value from a file.
        origin: The source, for the message.
        folder: Folder that a relative path is relative to.

    Raises:
        UsageError: The setting cannot have this value.
    """
    about = key.metadata
    words, kind = about["words"], about["kind"]

    def refuse(rule: str) -> UsageError:
        return UsageError(f"{origin}: {section}.{key.name} must be {rule}, not {_short(value)}")

    if isinstance(value, str) and value in words:
        return value
    or_words = "".join(f" or {word!r}" for word in words)
    if kind == "word":
        raise refuse(" or ".join(repr(word) for word in words))
    if kind in ("int", "number"):
        try:
            number = _number(value, whole=kind == "int")
        except (TypeError, ValueError, OverflowError):
            raise refuse(f"a{' whole' * (kind == 'int')} number{or_words}") from None
        if about["least"] is not None and number < about["least"]:
            raise refuse(f"at least {about['least']}{or_words}")
        if about["most"] is not None and number > about["most"]:
            raise refuse(f"at most {about['most']}{or_words}")
        if about["above"] is not None and number <= about["above"]:
            raise refuse(f"above {about['above']}{or_words}")
        if about["below"] is not None and number >= about["below"]:
            raise refuse(f"below {about['below']}{or_words}")
        return number
    if kind == "switch":
        if not isinstance(value, bool) and value not in ("true", "false"):
            raise refuse("true or false")
        return value in (True, "true")
    if kind == "names":
        names = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
            raise refuse("a list of names")
        return tuple(names)
    if kind == "table":
        table = _table(value)
        if table is None:
            raise refuse("a table of key = value")
        try:
            json_values.require_shallow(table, DEEPEST_TABLE)
            if len(json.dumps(table, allow_nan=False)) > LONGEST_TABLE:
                raise refuse(f"at most {LONGEST_TABLE} characters of JSON")
        except (TypeError, ValueError):
            raise refuse(
                f"a table of text, finite numbers, booleans, lists and tables, at most {DEEPEST_TABLE} levels deep"
            ) from None
        return table
    if isinstance(value, int) and not isinstance(value, bool) and key.name.endswith("_fold"):
        value = str(value)
    if not isinstance(value, str) or not value or "\0" in value:
        raise refuse("text")
    return os.path.normpath(folder / value) if kind == "path" else value


def _short(value: Any) -> str:
    """Returns the beginning of a value for a message."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits; lists in lists in lists
        return f"this {type(value).__name__}"
    return shown(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _number(value: Any, *, whole: bool) -> int | float:
    if isinstance(value, bool):
        raise TypeError
    number = (int if whole else float)(value)
    if not math.isfinite(number) or (whole and isinstance(value, float) and value != number):
        raise ValueError
    return number


def _table(value: Any) -> dict[str, Any] | None:
    """Reads ``key=value`` pairs; a value that is not JSON is text."""
    if isinstance(value, Mapping):
        return dict(value)
    pairs = [value] if isinstance(value, str) else value
    if not isinstance(pairs, list | tuple):
        return None
    table: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = str(pair).partition("=")
        if not equals or not name:
            return None
        try:
            table[name.strip()] = json_values.parse(text, finite=False)
        except json_values.RefusedJsonError:
            table[name.strip()] = text if text.isdecimal() else math.nan  # refused, with the bounds
        except ValueError:
            table[name.strip()] = text
    return table


def source(values: Mapping[str, Any], origin: str, folder: Path, *, by_user: bool = False) -> Source:
    """Checks a nested table of settings.

    Args:
        values: Values by section and key.
        origin: Where they come from, for messages.
        folder: Folder that relative paths are relative to.
        by_user: As in `Source`.

    Raises:
        UsageError: Unknown section or key (the nearest valid one is named), or an invalid value.
    """
    known: dict[str, dict[str, dataclasses.Field[Any]]] = {}
    for section, key in fields():
        known.setdefault(section, {})[key.name] = key
    checked: dict[str, dict[str, Any]] = {}
    for section, table in values.items():
        if section not in known:
            raise UsageError(f"{origin}: unknown section [{shown(section)}]{_nearest(section, known)}")
        if not isinstance(table, Mapping):
            raise UsageError(f"{origin}: [{section}] must be a table of settings")
        for name, value in table.items():
            if name not in known[section]:
                raise UsageError(f"{origin}: unknown key {section}.{shown(name)}{_nearest(name, known[section])}")
            checked.setdefault(section, {})[name] = convert(section, known[section][name], value, origin, folder)
    return Source(origin, checked, by_user)


def _nearest(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"


def from_environment(environ: Mapping[str, str]) -> Source:
    """Reads ``GRAMCLI_<SECTION>_<KEY>`` variables; others that begin with ``GRAMCLI_`` are refused.

    Raises:
        UsageError: An unknown variable or an invalid value.
    """
    names = {f"GRAMCLI_{section}_{key.name}".upper(): (section, key) for section, key in fields()}
    values: dict[str, dict[str, Any]] = {}
    for variable in sorted(name for name in environ if name.startswith("GRAMCLI_")):
        if variable not in names:
            raise UsageError(f"unknown environment variable {shown(variable)}{_nearest(variable, names)}")
        section, key = names[variable]
        values.setdefault(section, {})[key.name] = convert(section, key, environ[variable], variable, Path.cwd())
    return Source("environment", values, by_user=True)


def resolve(*sources: Source) -> Settings:
    """Puts sources together; later ones win. ``network.args`` is merged key by key."""
    sections: dict[str, Any] = {}
    for section in SECTIONS:
        values: dict[str, Any] = {}
        for one in sources:
            for key, value in one.values.get(section, {}).items():
                values[key] = {**NetworkSettings().args, **values.get(key, {}), **value} if key == "args" else value
        sections[section] = section_type(section)(**values)
    return Settings(**sections)


def require_moderate(settings: Settings, origin: str = "settings") -> Settings:
    """Returns settings; raises a UsageError if together they are larger than any use of them needs."""
    if excess := settings.excess():
        raise UsageError(f"{origin}: {excess}; give smaller ones")
    return settings


def check_metadata(metadata: Source, explicit: list[Source], settled: Source | None = None) -> None:
    """Refuses settings that contradict the metadata of a checkpoint.

    Args:
        metadata: Settings in the metadata.
        explicit: Settings that may not contradict it.
        settled: Settings of an earlier run, whose contradictions were allowed then.

    Raises:
        ArtefactError: It names each contradiction, stored → wanted.
    """
    clashes = []
    for section, table in metadata.values.items():
        for key, stored in table.items():
            for one in explicit:
                wanted = one.values.get(section, {}).get(key, stored)
                if key == "args":
                    wanted = {**stored, **wanted}
                agreed = settled is not None and settled.values.get(section, {}).get(key) == wanted
                if wanted != stored and not agreed:
                    clashes.append(f"{section}.{key} {stored!r} → {wanted!r} ({one.origin})")
    if clashes:
        raise ArtefactError(
            f"the metadata of {metadata.origin} contradicts the settings: {'; '.join(clashes)}; leave these settings "
            "out, or use them all the same with --override-metadata (of extract and of evaluate --folds)"
        )
