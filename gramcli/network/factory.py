"""Asks whether the code of a network may run, and imports its factory."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gramcli.errors import GramcliError, UnsafeError, UsageError
from gramcli.network import code_trust, project_code, remembered_code
from gramcli.network.code_trust import CodeOrigin, Verdict
from gramcli.network.project_code import Place, ProjectCode
from gramcli.settings.configure import origin_of_network, own_network
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import NetworkSettings
from gramcli.text import shown

Factory = Callable[..., Any]


@dataclass(frozen=True)
class Permission:
    """Leave to build a network, and where its code lies."""

    name: str
    arguments: Mapping[str, Any]
    """Arguments that it may be built with, besides the number of outputs."""
    verdict: Verdict
    origin: str = ""
    """What names it."""
    code: ProjectCode | None = None
    """The project that holds its factory; None for what is installed."""
    place: Place | None = None
    """Where the factory's module lies."""

    def remember(self) -> Path | None:
        """Remembers the network with the code that has run, unless nobody needs to trust it; returns the file."""
        if self.verdict not in (Verdict.NAMED, Verdict.TRUSTED):
            return None
        files: dict[str, str] = {}
        if self.place is not None:
            files = project_code.digests(self.place, None if self.code is None else self.code.root)
            files |= {} if self.code is None else self.code.imported()
        return remembered_code.remember(self.name, self.arguments, files)


def require_name(network: NetworkSettings) -> str:
    """Returns the name of the network; raises a UsageError if none is set."""
    if network.name is None:
        raise UsageError(
            "no network given; name it with --network (extract, train) or as the argument of layers, or set "
            "network.name in gramcli.toml"
        )
    return network.name


def permit(
    network: NetworkSettings, context: RunContext, origin: CodeOrigin | None = None, *, weights_follow: bool = False
) -> Permission:
    """Returns leave to build a network; nothing is imported.

    Args:
        network: Name and arguments.
        context: What the user named himself, whether he trusts all code, and the project's folder.
        origin: The cache or model that names the network, if one does.
        weights_follow: Whether weights are loaded into a network of timm, so that it needs no pretrained ones.

    Raises:
        UnsafeError: A file names code, or arguments that could load something, and the user does not trust it.
        UsageError: No network is named, there is no such module, or its name is that of an installed one.
    """
    name = require_name(network)
    own = own_network(context)
    dropped = {"num_classes", "pretrained"} if weights_follow and ":" not in name else {"num_classes"}
    arguments = {key: value for key, value in network.args.items() if key not in dropped}
    said = origin_of_network(context, name) or ("the metadata of its checkpoint" if origin is None else origin.name)
    said = {"command line": "you", "environment": "GRAMCLI_NETWORK_NAME"}.get(said, said)
    trusted = context.trust_code or context.remember_code
    found = code_trust.verdict(name, arguments, own)
    if found is Verdict.REFUSED:
        known = remembered_code.files(name, arguments)
        if known is not None:
            if ":" not in name:
                return Permission(name, arguments, Verdict.REMEMBERED, said)
            if remembered := _remembered(name, arguments, known, context, origin, said):
                return remembered
        found = code_trust.verdict(name, arguments, own, trusted=trusted)
    if found is Verdict.REFUSED:
        raise code_trust.refusal(name, arguments, own, said)
    if ":" not in name or found is Verdict.OWN:
        return Permission(name, arguments, found, said)
    if not code_trust.is_factory_name(name):
        raise UsageError(
            f"network.name: {shown(name)}: is no factory; name it as package.module:function, in plain names"
        )
    module = name.partition(":")[0]
    folders = _folders(context, origin) if trusted else [context.folder]
    for folder in folders if found is Verdict.TRUSTED else [context.folder, *folders]:
        place = project_code.locate(folder, module)
        if place is not None and place.files:
            code = ProjectCode(folder)
            code.require_own_name(module, place)
            return Permission(name, arguments, found, said, code, place)
    place = _installed(context.folder, module)
    if place is None:
        listed = " or ".join(shown(folder) for folder in dict.fromkeys(folders))
        raise UsageError(f"network.name: {shown(name)}: there is no module {shown(repr(module))} in {listed}")
    if found is Verdict.TRUSTED:
        raise UnsafeError(
            f"network.name = {shown(name)} (named by {said}): is installed and not in the project, which --trust-code "
            f"does not cover: if you trust it with these arguments, name it yourself with --network {shown(name)} or "
            "GRAMCLI_NETWORK_NAME"
        )
    return Permission(name, arguments, found, said, None, place)


@contextlib.contextmanager
def imported(permission: Permission, context: RunContext) -> Iterator[Factory]:
    """Imports a factory, and keeps the other modules of its project importable while it is called.

    The progress is warned of whose code runs before it runs, except for that of gramcli itself.

    Raises:
        UsageError: The module cannot be imported, or has no such function or class.
    """
    name, code, place = permission.name, permission.code, permission.place
    if place is not None:
        context.progress.warn(
            f"running the code of {shown(place.path)} (network.name = {shown(name)}, named by {permission.origin})"
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


def _folders(context: RunContext, origin: CodeOrigin | None) -> list[Path]:
    """Returns the folders whose code may be trusted: of the cache or model that names it, and of the context."""
    own = [] if origin is None or origin.folder is None else [origin.folder]
    return [*own, context.folder]


def _remembered(
    name: str,
    arguments: Mapping[str, Any],
    known: Mapping[str, str],
    context: RunContext,
    origin: CodeOrigin | None,
    said: str,
) -> Permission | None:
    """Returns leave to run code that the user has trusted for good, if it is there and has not changed."""
    if not code_trust.is_factory_name(name):
        return None
    module = name.partition(":")[0]
    for folder in _folders(context, origin):
        place = project_code.locate(folder, module)
        if place is not None and _match(place, folder, known):
            code = ProjectCode(folder, known)
            code.require_own_name(module, place)
            return Permission(name, arguments, Verdict.REMEMBERED, said, code, place)
    place = _installed(context.folder, module)
    if place is not None and _match(place, None, known):
        return Permission(name, arguments, Verdict.REMEMBERED, said, None, place)
    return None


def _match(place: Place, folder: Path | None, known: Mapping[str, str]) -> bool:
    found = project_code.digests(place, folder)
    return bool(found) and all(known.get(path) == digest for path, digest in found.items())


def _installed(folder: Path, module: str) -> Place | None:
    """Returns where an installed module lies; for one without a file of its own, where its package lies."""
    top = module.partition(".")[0]
    where = ProjectCode(folder).installed(top)
    if where is None:
        return None
    if not where.startswith(os.sep):  # built in
        return Place((Path(where),))
    above = Path(where).parents[1 if Path(where).name == "__init__.py" else 0]
    return project_code.locate(above, module, anywhere=True) or Place((Path(os.path.realpath(where)),))
