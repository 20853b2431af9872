"""Imports the factory of a network, after the user was told whose code runs, and calls it."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from gramcli.errors import GramcliError, UsageError
from gramcli.network.permission import Permission
from gramcli.settings.run_context import RunContext
from gramcli.text import shown

Factory = Callable[..., Any]


@contextlib.contextmanager
def imported(permission: Permission, context: RunContext) -> Iterator[Factory]:
    """Imports a factory, and keeps the other modules of its project importable while it is called.

    The progress is warned of whose code runs before it runs, except for that of gramcli itself.

    Raises:
        UsageError: The module cannot be imported, or has no such function or class.
    """
    name, code, files = permission.name, permission.code, permission.files
    if files is not None:
        context.progress.warn(
            f"running the code of {shown(files.path)} (network.name = {shown(name)}, named by {permission.named_by})"
        )
    with contextlib.nullcontext() if code is None else code.importable():
        yield _import(name)


def run(name: str, call: Callable[[], Any], what: str = "") -> Any:
    """Calls somebody's code; whatever it raises becomes a UsageError of one line."""
    try:
        return call()
    except GramcliError:
        raise
    except ModuleNotFoundError as error:
        raise UsageError(f"network.name: {shown(name)}: there is no module {shown(error.name)!r}") from None
    except (Exception, SystemExit) as error:
        first = shown(str(error).strip().partition("\n")[0])
        raise UsageError(f"{shown(name)}: {what}{type(error).__name__}: {first}") from error


def _import(name: str) -> Factory:
    module_name, _, attribute = name.partition(":")
    module = run(name, lambda: importlib.import_module(module_name))
    factory = vars(module).get(attribute)
    if factory is None:
        raise UsageError(f"network.name: {shown(name)}: the module has no {shown(attribute)!r}")
    if not (inspect.isfunction(factory) or inspect.isclass(factory)):
        raise UsageError(f"network.name: {shown(name)}: is not a function or class")
    return factory
