"""What the program itself says of its commands and options."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import typer

from gramcli.cli.app import app

ROOT_COMMAND: Any = typer.main.get_command(app)


def commands(command: Any = ROOT_COMMAND, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every command that does something as (words after ``gramcli``, click's command)."""
    for word, one in getattr(command, "commands", {}).items():
        full = f"{name} {word}".strip()
        if hasattr(one, "commands"):
            yield from commands(one, full)
        else:
            yield full, one


COMMANDS = dict(commands())


def options(command: Any) -> dict[str, Any]:
    """Returns the options of a command by flag."""
    return {flag: one for one in command.params for flag in one.opts if flag.startswith("-")}


def panels() -> set[str]:
    """Returns the groups that ``--help`` sorts options into."""
    return {one.rich_help_panel for command in COMMANDS.values() for one in command.params if one.rich_help_panel}


def split(arguments: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Returns the name of the command that a command line calls, and what follows.

    Raises:
        ValueError: There is no such command.
    """
    for count in (2, 1):
        name = " ".join(arguments[:count])
        if name in COMMANDS:
            return name, arguments[count:]
    raise ValueError(f"gramcli {' '.join(arguments)}: there is no such command")


def check(arguments: Sequence[str]) -> None:
    """Checks that a command and its options exist, and that click can take the line apart.

    Raises:
        ValueError: They do not.
    """
    name, rest = split(arguments)
    command = COMMANDS[name]
    known = {*options(command), "--help"}
    for word in rest:
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in known:
            raise ValueError(f"gramcli {name} has no option {flag}")
