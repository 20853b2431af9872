"""Imports the code of a project by the location of its files, so that no folder hides what is installed.

A project's modules are the ``.py`` files under its folder. Each is read once: the bytes that are hashed are those that
are compiled, and the folder's ``__pycache__``, which could hold other code, is neither read nor written. The folder is
never put on the import path. A finder of its own provides its modules while a factory is imported and called, and only
those that nothing installed provides.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from gramcli.errors import UnsafeError, UsageError
from gramcli.network.module_files import ModuleFiles, locate, read, relative
from gramcli.text import shown

TRUST_AGAIN = (
    "use --always-trust-code again, or --trust-code for one run (from Python remember_code or trust_code of RunContext)"
)
"""What to do about code that differs from what was remembered."""


def changed(path: Path) -> UnsafeError:
    """Returns the error for a file whose code is not the one that was trusted for good under its path."""
    return UnsafeError(
        f"{shown(path)}: has changed since you trusted it, or is of another project; read it, then {TRUST_AGAIN}"
    )


class ProjectCode:
    """The modules of one project.

    Args:
        folder: Its folder.
        known: SHA-256 by path of the only files that may run; None for all.
    """

    def __init__(self, folder: Path, known: Mapping[str, str] | None = None) -> None:
        self.root = Path(os.path.realpath(folder))
        self.known = known

    def require_no_clash(self, module: str, files: ModuleFiles) -> None:
        """Raises a UsageError if something that is installed or imported has the name of this project's module."""
        top = module.partition(".")[0]
        other = self.installed(top)
        if other is None or _same(other, files.parts[0]):
            return
        raise UsageError(
            f"{shown(files.path)}: has the same name as the installed module {shown(repr(top))}, which Python would "
            "import instead; rename it here and in network.name"
        )

    @contextlib.contextmanager
    def importable(self) -> Iterator[None]:
        """Makes the modules of the project importable, after all that is installed.

        Modules of this project whose files have changed, and those of other projects, are imported anew.
        """
        self._forget_others()
        finder = _Finder(self)
        importlib.invalidate_caches()
        sys.meta_path.insert(0, finder)  # it asks the other finders first; in front it sees the parts of its packages
        try:
            yield
        finally:
            sys.meta_path.remove(finder)

    def imported(self) -> dict[str, str]:
        """Returns SHA-256 by path of all files of the project whose code has run here."""
        here = (loader for _, loader in _loaded() if loader.code.root == self.root)
        return {relative(loader.path, self.root): loader.digest for loader in here}

    def _forget_others(self) -> None:
        loaders = [loader for _, loader in _loaded()]
        if any(loader.code.root != self.root or not self._unchanged(loader) for loader in loaders):
            for name in [name for name, module in list(sys.modules.items()) if _is_project(module)]:
                del sys.modules[name]

    def _unchanged(self, loader: _Loader) -> bool:
        allowed = self.known is None or self.known.get(relative(loader.path, self.root)) == loader.digest
        try:
            return allowed and hashlib.sha256(read(loader.path)).hexdigest() == loader.digest
        except UsageError:
            return False

    def installed(self, top: str) -> str | None:
        """Returns file or folder of a top-level module that is installed, its name if it has neither; imports nothing.

        Without a module of that name, and for a module that was imported from a project, it returns None.
        """
        if top in sys.builtin_module_names or top in sys.stdlib_module_names:
            return top
        if (module := sys.modules.get(top)) is not None:
            return None if _is_project(module) else _where(getattr(module, "__spec__", None) or module)
        path = [one for one in sys.path if one and Path(os.path.realpath(one)) != self.root]
        for finder in sys.meta_path:
            if isinstance(finder, _Finder):
                continue
            spec = PathFinder.find_spec(top, path) if finder is PathFinder else finder.find_spec(top, None)
            if spec is not None:
                return _where(spec)
        return None


class _Finder(MetaPathFinder):
    """Finds the modules of a project that nothing installed provides, and the parts of its packages."""

    def __init__(self, code: ProjectCode) -> None:
        self.code = code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        parent, _, _ = fullname.rpartition(".")
        if not parent:
            installed = self.code.installed(fullname)
            files = None if installed and not installed.startswith(os.sep) else locate(self.code.root, fullname)
            return self._spec(fullname, files) if files and (not installed or _same(installed, files.path)) else None
        if not self._holds(parent):
            return None
        files = locate(self.code.root, fullname)
        if files is None:  # no other finder may provide it: it would run a compiled file that was not hashed
            raise ModuleNotFoundError(f"no module named {fullname!r} among the .py files of the project", name=fullname)
        return self._spec(fullname, files)

    def _holds(self, package: str) -> bool:
        """Returns whether a package that is imported is the project's."""
        module = sys.modules.get(package)
        if module is None or _is_project(module):
            return module is not None
        files = locate(self.code.root, package)
        return files is not None and _same(_where(getattr(module, "__spec__", None)), files.path)

    def _spec(self, name: str, files: ModuleFiles) -> ModuleSpec:
        if files.path.suffix != ".py":
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = _Locations([str(files.path)])
            return spec
        locations = [str(files.path.parent)] if files.path.name == "__init__.py" else None
        loader = _Loader(self.code, files.path)
        found = importlib.util.spec_from_file_location(
            name, files.path, loader=loader, submodule_search_locations=locations
        )
        assert found is not None  # it is given a loader
        return found


class _Locations(list[str]):
    """Folder of a package without ``__init__.py`` that a `_Finder` found."""


class _Loader(Loader):
    """Runs the bytes of one file that it hashed."""

    def __init__(self, code: ProjectCode, path: Path) -> None:
        self.code, self.path = code, path
        self.content = read(path)
        self.digest = hashlib.sha256(self.content).hexdigest()

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        if self.code.known is not None:
            trusted = self.code.known.get(relative(self.path, self.code.root))
            if trusted is None:
                raise UnsafeError(
                    f"{shown(self.path)}: is imported by code that you trust, but was not there when you trusted it; "
                    f"read it, then {TRUST_AGAIN}"
                )
            if trusted != self.digest:
                raise changed(self.path)
        exec(compile(self.content, str(self.path), "exec", dont_inherit=True), module.__dict__)


def _loaded() -> Iterator[tuple[str, _Loader]]:
    """Yields the modules that were imported by this module, and their loaders."""
    for name, module in list(sys.modules.items()):
        loader = getattr(getattr(module, "__spec__", None), "loader", None)
        if isinstance(loader, _Loader):
            yield name, loader


def _is_project(module: object) -> bool:
    """Returns whether a module was imported from a project by this module."""
    spec = getattr(module, "__spec__", None)
    locations = getattr(spec, "submodule_search_locations", None)
    return isinstance(getattr(spec, "loader", None), _Loader) or isinstance(locations, _Locations)


def _where(spec: Any) -> str:
    """Returns file or folder of a module by its spec, its name if it has neither."""
    folders = list(getattr(spec, "submodule_search_locations", None) or ())
    for path in (getattr(spec, "origin", None), getattr(spec, "__file__", None), *folders):
        if isinstance(path, str) and path.startswith(os.sep):
            return path
    return str(getattr(spec, "name", None) or getattr(spec, "__name__", None) or "?")


def _same(one: str, other: Path) -> bool:
    return one.startswith(os.sep) and os.path.realpath(one) == str(other)
