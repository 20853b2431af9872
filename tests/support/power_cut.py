"""Simulates a power cut after each system call: what was not synced is lost, wholly or in part.

A disk keeps the content that a file had when it was last synced, and the names that a folder had when that was. All
else may be there or not, each on its own.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.faults import System

Tree = dict[str, bytes | None]
"""Content by path from the top; None for a folder."""


class Recorder(System):
    """A system without faults that keeps what the disk would hold after each call.

    Args:
        top: Folder under which everything happens; it and what is in it at first are durable.
        into: File that takes the trees, two a call: nothing of what was not synced, and some of it.
    """

    def __init__(self, top: str, into: str) -> None:
        super().__init__()
        self._top, self._into = Path(top), Path(into)
        self._random = random.Random(0)
        self._names: dict[int, dict[str, int]] = {}
        self._bytes: dict[int, bytes] = {}
        self._held: list[int] = []
        for folder, _, files in os.walk(top):
            self._sync_names(folder)
            for name in files:
                descriptor = os.open(Path(folder, name), os.O_RDONLY)
                self._sync_bytes(descriptor)
                self._held.append(descriptor)  # so that no inode is used again
        self._moments: list[tuple[str, Tree, Tree]] = []

    def _sync_names(self, folder: str | Path) -> None:
        self._names[Path(folder).stat().st_ino] = self._listed(folder)

    def _listed(self, folder: str | Path) -> dict[str, int]:
        return {entry.name: entry.inode() for entry in os.scandir(folder)}

    def _sync_bytes(self, descriptor: int) -> None:
        about = os.fstat(descriptor)
        self._bytes[about.st_ino] = os.pread(descriptor, about.st_size, 0)

    def _call(self, name: str, real: Any, *args: Any, **named: Any) -> Any:
        result = super()._call(name, real, *args, **named)
        if name == "open":
            # not a copy of it, which would share its lock
            self._held.append(os.open(path_of(result), os.O_RDONLY))
        elif name == "fsync":
            path = path_of(args[0])
            self._sync_names(path) if path.is_dir() else self._sync_bytes(args[0])
        self._moments.append((name, self._tree(self._names, self._bytes), self._mixed()))
        return result

    def _mixed(self) -> Tree:
        names, content = dict(self._names), dict(self._bytes)
        for folder, _, files in os.walk(self._top):
            if self._random.random() < 0.5:
                names[Path(folder).stat().st_ino] = self._listed(folder)
            for path in (Path(folder, name) for name in files):
                if self._random.random() < 0.5:
                    now = path.read_bytes()
                    content[path.stat().st_ino] = now[: self._random.choice((len(now), len(now) // 2, 0))]
                    if now == self._bytes.get(path.stat().st_ino):
                        content[path.stat().st_ino] = now
        return self._tree(names, content)

    def _tree(self, names: Mapping[int, Mapping[str, int]], content: Mapping[int, bytes]) -> Tree:
        folders = {Path(folder).stat().st_ino for folder, _, _ in os.walk(self._top)}
        tree: Tree = {}

        def walk(inode: int, path: str) -> None:
            for name, one in names.get(inode, {}).items():
                tree[path + name] = None if one in folders else content.get(one, b"")
                if one in folders:
                    walk(one, f"{path}{name}/")

        walk(self._top.stat().st_ino, "")
        return tree

    def finish(self) -> None:
        """Hands over what was recorded."""
        self._into.write_bytes(pickle.dumps(self._moments))


def path_of(descriptor: int) -> Path:
    """Returns where an open file or folder is."""
    if hasattr(fcntl, "F_GETPATH"):  # of macOS
        return Path(os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0")))
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def restore(tree: Tree, top: Path) -> None:
    """Puts a tree where a run will find it."""
    for path, content in tree.items():
        if content is None:
            (top / path).mkdir(parents=True)
        else:
            (top / path).write_bytes(content)
