"""Below a root no link is followed, neither one that stands there nor one that appears between two steps."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gramcli.errors import DamagedError, UsageError
from gramcli.system import durable_files, folder_lock, opener, output_file, temporary_file


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that nobody may touch."""
    folder = tmp_path / "outside"
    (folder / "deep").mkdir(parents=True)
    (folder / "file").write_text("precious")
    (folder / "deep" / "file").write_text("precious")
    (folder / ".x.7-0123abcd.tmp").write_text("precious")
    (folder / "deep" / ".x.7-0123abcd.tmp").write_text("precious")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "folder" / "deep").mkdir(parents=True)
    (folder / "folder" / "deep" / "file").write_text("own")
    (folder / "moved").write_text("own")
    return folder


def seen(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(folder)): (path.read_text() if path.is_file() else "", path.stat().st_mtime_ns)
        for path in (folder, *sorted(folder.rglob("*")))
    }


def read(path: Path, root: Path) -> str:
    descriptor = opener.open_file(path, root)
    try:
        return os.read(descriptor, 100).decode()
    finally:
        os.close(descriptor)


OPERATIONS: dict[str, Callable[[Path, Path], Any]] = {
    "read": read,
    "status": lambda path, root: opener.status(path, root),
    "names": lambda path, root: opener.names(path.parent, root),
    "write": lambda path, root: durable_files.write(path, b"new", below=root),
    "write once": lambda path, root: durable_files.write(path.with_name("new"), b"new", replace=False, below=root),
    "remove": lambda path, root: durable_files.remove(path, below=root),
    "make a folder": lambda path, root: durable_files.make_folder(path.parent / "made", below=root),
    "sweep": lambda path, root: durable_files.sweep(path.parent, below=root),
    "move there": lambda path, root: durable_files.move(root / "moved", path.parent, below=root),
    "move from there": lambda path, root: durable_files.move(path, root / "aside", below=root),
}


@pytest.mark.parametrize("link", ["folder", "folder/deep"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_linked_folder_is_damage(root, outside, operation, link):
    (root / link).rename(root / "was there")
    (root / link).symlink_to(outside if link == "folder" else outside / "deep")
    before = seen(outside)
    with pytest.raises(DamagedError, match=rf"root/{link}: is damaged \(a link stands in its place\); move that away"):
        OPERATIONS[operation](root / "folder" / "deep" / "file", root)
    assert seen(outside) == before


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_folder_that_becomes_a_link_between_two_steps_does_not_matter(root, outside, operation, monkeypatch):
    """It is swapped after it was opened, and before anything in it is read or changed."""
    before, swapped = seen(outside), []

    class Swapping:
        def __getattr__(self, name: str) -> Any:
            real = getattr(os, name)
            if name not in ("open", "lstat", "unlink", "mkdir", "replace", "link", "listdir", "access"):
                return real

            def call(*arguments: Any, **named: Any) -> Any:
                if not swapped and name != "open" and (root / "folder" / "deep").is_dir():
                    swapped.append(name)
                    (root / "folder" / "deep").rename(root / "was there")
                    (root / "folder" / "deep").symlink_to(outside / "deep")
                result = real(*arguments, **named)
                if not swapped and name == "open" and arguments[0] == "deep":
                    swapped.append(name)
                    (root / "folder" / "deep").rename(root / "was there")
                    (root / "folder" / "deep").symlink_to(outside / "deep")
                return result

            return call

    for module in (opener, durable_files, temporary_file):
        monkeypatch.setattr(module, "os", Swapping())
    try:
        found = OPERATIONS[operation](root / "folder" / "deep" / "file", root)
    except DamagedError:
        found = "refused"
    assert swapped
    assert seen(outside) == before
    assert found in ("own", "refused") or operation != "read"


def test_a_file_that_becomes_a_link_between_two_steps_is_not_read(root, outside, monkeypatch):
    def swap(path: Path, descriptor: int, below: Path | None) -> None:
        path.unlink()
        path.symlink_to(outside / "file")

    monkeypatch.setattr(opener, "require_regular", swap)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        opener.open_file(root / "moved", root)


@pytest.mark.parametrize("kind", ["a link", "a pipe", "a socket", "a folder"])
def test_only_regular_files_are_opened_and_replaced(root, outside, kind, monkeypatch):
    path = root / "folder" / "odd"
    if kind == "a link":
        path.symlink_to(outside / "file")
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        monkeypatch.chdir(path.parent)  # a socket's name can only be short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    before = seen(outside), path.lstat()
    for attempt in (OPERATIONS["read"], OPERATIONS["write"]):
        with pytest.raises(DamagedError, match=rf"odd: is damaged \({kind} stands in its place\)"):
            attempt(path, root)
    for refuse in (output_file.require_writable, lambda path: durable_files.write(path, b"new")):
        with pytest.raises(UsageError, match=rf"odd: is {kind}; name a file"):
            refuse(path)
    assert (seen(outside), path.lstat()) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_a_device_is_neither_read_nor_replaced(root):
    try:
        os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("not even root can make a device here")
    with pytest.raises(DamagedError, match="a device stands in its place"):
        opener.open_file(root / "null", root)
    with pytest.raises(UsageError, match="null: is a device; name a file"):
        output_file.require_writable(root / "null")


def test_a_link_itself_can_be_moved_away_and_deleted(root, outside):
    before = seen(outside)
    for name in ("one", "two"):
        (root / "folder" / name).symlink_to(outside)
    durable_files.remove(root / "folder" / "one", below=root)
    there = durable_files.move(root / "folder" / "two", root / "aside", below=root)
    assert not os.path.lexists(root / "folder" / "one")
    assert there.readlink() == outside
    assert seen(outside) == before


def test_the_root_and_hard_links_are_the_users_own(root, tmp_path):
    (tmp_path / "named").symlink_to(root)
    (tmp_path / "named" / "hard").hardlink_to(root / "moved")
    assert read(tmp_path / "named" / "hard", tmp_path / "named") == "own"
    with folder_lock.lock(tmp_path / "named"):
        assert (root / "lock").is_file()


def test_a_path_that_leaves_its_root_is_a_mistake(root):
    with pytest.raises(ValueError, match="does not lie below"):
        opener.names(root / ".." / "outside", root)
    assert opener.names(root / "none", root) == []
    assert opener.status(root / "none" / "file", root) is None
