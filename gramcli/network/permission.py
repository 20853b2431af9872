"""Decides whether a network may be built, and finds its code; nothing is imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gramcli.errors import UnsafeError, UsageError
from gramcli.network import code_trust, module_files, project_code, remembered_code
from gramcli.network.code_trust import CodeOrigin, Verdict
from gramcli.network.module_files import ModuleFiles
from gramcli.network.project_code import ProjectCode
from gramcli.progress import Progress
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import NetworkSettings
from gramcli.settings.user_network import origin_of_network, user_network
from gramcli.text import shown


@dataclass(frozen=True)
class Permission:
    """Permission to build a network, and where its code lies."""

    name: str
    arguments: Mapping[str, Any]
    """Arguments that it may be built with, besides the number of outputs."""
    verdict: Verdict
    named_by: str = ""
    """Who or which file names it, for messages."""
    code: ProjectCode | None = None
    """The project that holds its factory; None for what is installed."""
    files: ModuleFiles | None = None
    """Files of the factory's module; None for networks of timm and of gramcli."""

    def remember(self, progress: Progress) -> None:
        """Remembers the network with the code that has run, unless it needs no trust, and notes that.

        Raises:
            ArtefactError, ResourceError: The list of what is trusted cannot be read or written.
        """
        if self.verdict not in (Verdict.NAMED, Verdict.TRUSTED):
            return
        digests: dict[str, str] = {}
        if self.files is not None:
            digests = self.files.digests(None if self.code is None else self.code.root)
            digests |= {} if self.code is None else self.code.imported()
            if not digests:
                progress.note(
                    f"{shown(self.name)}: is compiled or part of Python, so that you trust it cannot be remembered"
                )
                return
        path = remembered_code.remember(self.name, self.arguments, digests)
        progress.note(
            f"{shown(path)}: now lists {shown(self.name)} as trusted; delete its entry there to be asked again"
        )


def require_name(network: NetworkSettings) -> str:
    """Returns the name of the network; raises a UsageError if none is set."""
    if network.name is None:
        raise UsageError(
            "no network given; name it with --network (extract, train) or as the argument of layers, or set "
            "network.name in gramcli.toml"
        )
    return network.name


def permit(
    network: NetworkSettings,
    context: RunContext,
    origin: CodeOrigin | None = None,
    *,
    weights_follow: bool = False,
    stated_settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Permission:
    """Returns permission to build a network; nothing is imported.

    Args:
        network: Name and arguments.
        context: What the user named, whether all code is trusted, and the project's folder.
        origin: The cache or model that names the network, if one does.
        weights_follow: Whether weights are loaded into a network of timm, so that it needs no pretrained ones.
        stated_settings: Settings in the metadata of the checkpoint, if there is one.

    Raises:
        UnsafeError: A file names code, or arguments that could load something, and the user does not trust it.
        UsageError: No network is named, there is no such module, or its name is that of an installed one.
    """
    name = require_name(network)
    user = user_network(context)
    dropped = {"num_classes", "pretrained"} if weights_follow and ":" not in name else {"num_classes"}
    arguments = {key: value for key, value in network.args.items() if key not in dropped}
    named_by = _named_by(network, context, origin, stated_settings)
    found = code_trust.verdict(name, arguments, user)
    if found is Verdict.REFUSED:
        known = remembered_code.files(name, arguments, context.progress.warn)
        if known is not None and ":" not in name:
            return Permission(name, arguments, Verdict.REMEMBERED, named_by)
        changed = None
        if known is not None and code_trust.is_factory_name(name):
            for folder, files in _candidates(name, context, origin):
                if folder is not None and context.trusts_files:  # then all of its code may run, also what has changed
                    continue
                changed = changed or _changed(files, folder, known)
                if _match(files, folder, known):
                    code = None if folder is None else _project(folder, name, files, known)
                    return Permission(name, arguments, Verdict.REMEMBERED, named_by, code, files)
        found = code_trust.verdict(name, arguments, user, trusted=context.trusts_files)
        if found is Verdict.REFUSED:
            if changed is not None:
                raise project_code.changed(changed)
            raise code_trust.refusal(
                name, arguments, user, named_by, only_installed=_is_only_installed(name, context, origin)
            )
    if ":" not in name or found is Verdict.BUNDLED:
        return Permission(name, arguments, found, named_by)
    return _located(name, arguments, found, named_by, context, origin)


def _located(
    name: str,
    arguments: Mapping[str, Any],
    found: Verdict,
    named_by: str,
    context: RunContext,
    origin: CodeOrigin | None,
) -> Permission:
    """Returns permission for a factory that is named or trusted, with its files."""
    if not code_trust.is_factory_name(name):
        raise UsageError(
            f"network.name: {shown(name)}: is no factory; name it as package.module:function, in plain names"
        )
    module = name.partition(":")[0]
    folders = [context.folder]
    if context.trusts_files and origin is not None and origin.folder is not None:
        # what a file names is looked for beside it first; what the user names, in the user's project first
        folders.insert(0 if found is Verdict.TRUSTED else 1, origin.folder)
    for folder in folders:
        files = module_files.locate(folder, module)
        if files is not None and files.sources:
            return Permission(name, arguments, found, named_by, _project(folder, name, files), files)
    files = _installed(context.folder, module)
    if files is None:
        listed = " or ".join(shown(folder) for folder in dict.fromkeys(folders))
        beside = origin is not None and origin.folder is not None and origin.folder not in folders
        option = "--trust-code, which also looks beside the cache or the model"
        raise UsageError(
            f"network.name: {shown(name)}: there is no module {shown(repr(module))} in {listed}, nor is it installed; "
            "check the name, copy its .py file there, or give "
            f"{option if beside else '--config in the folder that holds it'}"
        )
    if found is Verdict.TRUSTED:
        raise UnsafeError(
            f"network.name = {shown(name)} (named by {named_by}): is installed and not in the project, which "
            f"--trust-code does not cover: if you trust it with these arguments, {code_trust.name_it(name)}"
        )
    return Permission(name, arguments, found, named_by, None, files)


def _is_only_installed(name: str, context: RunContext, origin: CodeOrigin | None) -> bool:
    """Returns whether a factory's module is installed and in no project, so that `--trust-code` would not cover it."""
    if not code_trust.is_factory_name(name):
        return False
    try:
        found = _candidates(name, context, origin)
    except UnsafeError:  # a link, which is refused once its code is trusted
        return False
    return bool(found) and not any(folder is not None and files.sources for folder, files in found)


def _named_by(
    network: NetworkSettings,
    context: RunContext,
    origin: CodeOrigin | None,
    stated_settings: Mapping[str, Mapping[str, Any]] | None,
) -> str:
    """Returns who or which file names a network, for messages."""
    named_by = origin_of_network(context, network.name or "")
    if named_by is not None:
        return named_by
    if origin is not None:
        return origin.name
    if network.weights is not None and (stated_settings or {}).get("network", {}).get("name") == network.name:
        return f"the metadata of {shown(network.weights)}"
    return "an earlier run or complete settings"


def _candidates(name: str, context: RunContext, origin: CodeOrigin | None) -> list[tuple[Path | None, ModuleFiles]]:
    """Returns where code may lie that the user has trusted for good: folder, or None if it is installed, and files."""
    module = name.partition(":")[0]
    folders = [context.folder]
    if origin is not None and origin.folder is not None:
        folders.insert(0, origin.folder)
    found: list[tuple[Path | None, ModuleFiles]] = []
    for folder in folders:
        files = module_files.locate(folder, module)
        if files is not None:
            found.append((folder, files))
    installed = _installed(context.folder, module)
    return found if installed is None else [*found, (None, installed)]


def _project(folder: Path, name: str, files: ModuleFiles, known: Mapping[str, str] | None = None) -> ProjectCode:
    code = ProjectCode(folder, known)
    code.require_no_clash(name.partition(":")[0], files)
    return code


def _match(files: ModuleFiles, folder: Path | None, known: Mapping[str, str]) -> bool:
    found = files.digests(folder)
    return bool(found) and all(known.get(path) == digest for path, digest in found.items())


def _changed(files: ModuleFiles, folder: Path | None, known: Mapping[str, str]) -> Path | None:
    """Returns the first file that is known with another content."""
    for path, digest in files.digests(folder).items():
        if known.get(path, digest) != digest:
            return Path(path) if folder is None else Path(os.path.realpath(folder)) / path
    return None


def _installed(folder: Path, module: str) -> ModuleFiles | None:
    """Returns the files of an installed module; for one without a file of its own, those of its package."""
    top = module.partition(".")[0]
    where = ProjectCode(folder).installed(top)
    if where is None:
        return None
    if not where.startswith(os.sep):  # built in
        return ModuleFiles((Path(where),))
    above = Path(where).parents[1 if Path(where).name == "__init__.py" else 0]
    found = module_files.locate(above, module, anywhere=True)
    return found or ModuleFiles((Path(os.path.realpath(where)),))
