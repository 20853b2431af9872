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
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from gramcli.errors import UnsafeError, UsageError
from gramcli.text import shown


@dataclass(frozen=True)
class Place:
    """Where a module lies under a folder."""

    parts: tuple[Path, ...]
    """Files of its packages and its own, with all links resolved; a folder where a package has no ``__init__.py``."""

    @property
    def path(self) -> Path:
        """Its own file or folder."""
        return self.parts[-1]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files whose code runs when it is imported, apart from what these import."""
        return tuple(path for path in self.parts if path.suffix == ".py")


def locate(folder: Path, module: str, *, anywhere: bool = False) -> Place | None:
    """Returns where a module lies under a folder; imports nothing.

    Args:
        folder: Folder of a project, or one on the import path.
        module: Its name, with dots.
        anywhere: Whether links may lead out of the folder.

    Raises:
        UnsafeError: A link leads out of the folder.
    """
    root = Path(os.path.realpath(folder))
    here, parts = root, list[Path]()
    names = module.split(".")
    for number, name in enumerate(names, 1):
        package, single = here / name / "__init__.py", here / f"{name}.py"
        if package.is_file():
            found = package
        elif single.is_file():
            found = single
        elif (here / name).is_dir():
            found = here / name
        else:
            return None
        if number < len(names) and found == single:
            return None
        real = Path(os.path.realpath(found))
        if not anywhere and not real.is_relative_to(root):
            raise UnsafeError(
                f"{shown(found)}: leads to {shown(real)}, which is not under the project's folder; its code is not run"
            )
        parts.append(real)
        here = here / name
    return Place(tuple(parts))


def digests(place: Place, folder: Path | None) -> dict[str, str]:
    """Returns the SHA-256 of the files of a module by their paths, which are relative to the folder of a project.

    Raises:
        UsageError: A file cannot be read.
    """
    return {
        str(path) if folder is None else _name(folder, path): hashlib.sha256(_read(path)).hexdigest()
        for path in place.files
    }


class ProjectCode:
    """The modules of one project.

    Args:
        folder: Its folder.
        known: SHA-256 by path of the only files that may run; None for all.
    """

    def __init__(self, folder: Path, known: Mapping[str, str] | None = None) -> None:
        self.root = Path(os.path.realpath(folder))
        self.known = known

    def require_own_name(self, module: str, place: Place) -> None:
        """Raises a UsageError if something that is installed or imported has the name of this project's module."""
        top = module.partition(".")[0]
        other = self.installed(top)
        if other is None or (place.parts and _same(other, place.parts[0])):
            return
        raise UsageError(
            f"{shown(place.path)}: has the name of the module {shown(top)} that is installed, which it would hide; "
            "rename it, and network.name"
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
        own = (loader for _, loader in _loaded() if loader.code.root == self.root)
        return {_name(self.root, loader.path): loader.digest for loader in own}

    def _forget_others(self) -> None:
        loaders = [loader for _, loader in _loaded()]
        if any(loader.code.root != self.root or not self._unchanged(loader) for loader in loaders):
            for name in [name for name, module in list(sys.modules.items()) if _is_project(module)]:
                del sys.modules[name]

    def _unchanged(self, loader: _Loader) -> bool:
        allowed = self.known is None or self.known.get(_name(self.root, loader.path)) == loader.digest
        try:
            return allowed and hashlib.sha256(_read(loader.path)).hexdigest() == loader.digest
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
            place = None if installed and not installed.startswith(os.sep) else locate(self.code.root, fullname)
            return self._spec(fullname, place) if place and (not installed or _same(installed, place.path)) else None
        if not self._holds(parent):
            return None
        place = locate(self.code.root, fullname)
        if place is None:  # no other finder may provide it: it would run a compiled file that was not hashed
            raise ModuleNotFoundError(f"no module named {fullname!r} among the .py files of the project", name=fullname)
        return self._spec(fullname, place)

    def _holds(self, package: str) -> bool:
        """Returns whether a package that is imported is the project's."""
        module = sys.modules.get(package)
        if module is None or _is_project(module):
            return module is not None
        place = locate(self.code.root, package)
        return place is not None and _same(_where(getattr(module, "__spec__", None)), place.path)

    def _spec(self, name: str, place: Place) -> ModuleSpec:
        if place.path.suffix != ".py":
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = _Locations([str(place.path)])
            return spec
        locations = [str(place.path.parent)] if place.path.name == "__init__.py" else None
        loader = _Loader(self.code, place.path)
        found = importlib.util.spec_from_file_location(
            name, place.path, loader=loader, submodule_search_locations=locations
        )
        assert found is not None  # it is given a loader
        return found


class _Locations(list[str]):
    """Folder of a package without ``__init__.py`` that a `_Finder` found."""


class _Loader(Loader):
    """Runs the bytes of one file that it hashed."""

    def __init__(self, code: ProjectCode, path: Path) -> None:
        self.code, self.path = code, path
        self.content = _read(path)
        self.digest = hashlib.sha256(self.content).hexdigest()

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        known = self.code.known
        if known is not None and known.get(_name(self.code.root, self.path)) != self.digest:
            raise UnsafeError(
                f"{shown(self.path)}: has changed since its code was trusted, or was not part of it; if you trust it, "
                "give --trust-code or --always-trust-code"
            )
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
    for place in (getattr(spec, "origin", None), getattr(spec, "__file__", None), *folders):
        if isinstance(place, str) and place.startswith(os.sep):
            return place
    return str(getattr(spec, "name", None) or getattr(spec, "__name__", None) or "?")


def _same(one: str, other: Path) -> bool:
    return one.startswith(os.sep) and os.path.realpath(one) == str(other)


def _name(folder: Path, path: Path) -> str:
    return path.relative_to(os.path.realpath(folder)).as_posix()


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return file.read()
    except OSError as error:
        raise UsageError(f"{shown(path)}: cannot be read: {error.strerror}") from None
    raise UsageError(f"{shown(path)}: is not a regular file")
