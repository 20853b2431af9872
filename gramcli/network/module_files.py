"""Finds and reads the files of a Python module under a folder, without importing anything."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from gramcli.errors import UnsafeError, UsageError
from gramcli.text import shown


@dataclass(frozen=True)
class ModuleFiles:
    """The files of a module and of the packages that hold it."""

    parts: tuple[Path, ...]
    """From the outermost package to the module itself, with all links resolved; a folder where a package has no
    ``__init__.py``."""

    @property
    def path(self) -> Path:
        """The module's own file or folder."""
        return self.parts[-1]

    @property
    def sources(self) -> tuple[Path, ...]:
        """The ``.py`` files whose code runs when it is imported, apart from what these import."""
        return tuple(path for path in self.parts if path.suffix == ".py")

    def digests(self, folder: Path | None) -> dict[str, str]:
        """Returns the SHA-256 of its ``.py`` files by their paths.

        Args:
            folder: Folder of the project, which the paths are relative to; None for what is installed, whose paths
                are absolute.

        Raises:
            UsageError: A file cannot be read.
        """
        return {
            str(path) if folder is None else relative(path, folder): hashlib.sha256(read(path)).hexdigest()
            for path in self.sources
        }


def locate(folder: Path, module: str, *, anywhere: bool = False) -> ModuleFiles | None:
    """Returns the files of a module under a folder; None if it is not there.

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
        # not Path.is_file, which raises an error for a name that is too long
        if os.path.isfile(package):  # noqa: PTH113
            found = package
        elif os.path.isfile(single):  # noqa: PTH113
            found = single
        elif os.path.isdir(here / name):  # noqa: PTH112
            found = here / name
        else:
            return None
        if number < len(names) and found == single:
            return None
        real = Path(os.path.realpath(found))
        if not anywhere and not real.is_relative_to(root):
            raise UnsafeError(
                f"{shown(found)}: leads to {shown(real)}, which is not under the project's folder; put the file itself "
                "in place of the link"
            )
        parts.append(real)
        here = here / name
    return ModuleFiles(tuple(parts))


def relative(path: Path, folder: Path) -> str:
    """Returns the path of a file of a project, relative to its folder, with ``/`` between the names."""
    return path.relative_to(os.path.realpath(folder)).as_posix()


def read(path: Path) -> bytes:
    """Returns the content of a file.

    Raises:
        UsageError: It cannot be read, or is no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return file.read()
    except OSError as error:
        raise UsageError(f"{shown(path)}: cannot be read: {error.strerror}") from None
    raise UsageError(f"{shown(path)}: is not a regular file")
