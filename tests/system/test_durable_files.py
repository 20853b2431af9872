"""Files are written, moved and removed whole and durably, or not at all; a fault of any system call is harmless."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gramcli.cache import sealed_writer
from gramcli.errors import ResourceError, UsageError
from gramcli.system import durable_files, folder_lock, opener, output_file, temporary_file
from tests.support import faults
from tests.support.sets import ROOT


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path):
    durable_files.write(tmp_path / "a", b"old")
    durable_files.write(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_the_first_to_write_a_name_wins(tmp_path):
    durable_files.write(tmp_path / "a", b"first", replace=False)
    with pytest.raises(FileExistsError):
        durable_files.write(tmp_path / "a", b"second", replace=False)
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("call", ["fsync", "replace", "link"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_a_fault_at_any_step_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, call, number):
    durable_files.write(tmp_path / "a", b"old")

    def fails(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fails)
    target = tmp_path / ("b" if call == "link" else "a")
    with pytest.raises(ResourceError, match=rf"{target.name}: cannot be written: {os.strerror(number)}; ") as caught:
        durable_files.write(target, b"new", replace=call != "link")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


FULL = """
import errno, os, resource, signal, sys
from pathlib import Path
import numpy as np
from gramcli.cache import clip_table, sealed, sealed_writer
from gramcli.cache.shard import Shard
from gramcli.cache.view import View
from gramcli.errors import ResourceError
from gramcli.system import durable_files, folder_lock, opener, temporary_file
from tests.support.damage import clip

folder = Path(sys.argv[1])
view = View.create(folder, {"head": "none", "outputs": 1, "layers": [["relu", 2000]]}, {})
values = np.zeros((50, 2000), np.float32)
rows = Shard(tuple(clip(n).key for n in range(50)), ("ok",) * 50, values[:, :1], {"relu": values})
durable_files.write(folder / "old", b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for write in (
    lambda: durable_files.write(folder / "old", bytes(30_000)),
    lambda: view.write(0, rows),
    lambda: clip_table.write(folder, [clip(n) for n in range(500)], 1.0),
    lambda: sealed_writer.write(folder / "s", "k", {"x": values}, {}),
):
    try:
        write()
    except ResourceError as error:
        print(error)
"""


def test_no_writer_survives_a_full_disk_in_part(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split(": ")[0].split("/")[-1] for line in lines] == ["old", "00000.h5", "clips.csv", "s"]
    assert all(
        ": cannot be written: File too large; check the disk and run the same command again; earlier files are intact"
        in line
        for line in lines
    )
    assert (tmp_path / "old").read_bytes() == b"old"
    found = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"old", "view.json"}


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_what_is_interrupted_leaves_nothing(tmp_path, error):
    durable_files.write(tmp_path / "a", b"old")

    def write() -> None:
        with durable_files.staged(tmp_path / "a") as descriptor:
            durable_files.put(descriptor, b"half")
            raise error

    with pytest.raises(error):
        write()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_folders_in_the_way_are_said(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "file").write_text("")
    for attempt, message in (
        (lambda: durable_files.write(tmp_path / "no" / "a", b""), "a: cannot be written: No such file"),
        (lambda: durable_files.make_folder(tmp_path / "file"), "file: cannot be written: File exists"),
        (lambda: durable_files.make_folder(tmp_path / "file" / "x"), "x: cannot be written: Not a directory"),
        (lambda: folder_lock.lock(tmp_path / "file").__enter__(), "file: cannot be written"),
    ):
        with pytest.raises(ResourceError, match=message):
            attempt()
    with pytest.raises(UsageError, match="a: is a folder; name a file"):
        durable_files.write(tmp_path / "a", b"")


LEFT = ".00001.h5.77-0123abcd.tmp"


def test_leftovers_of_killed_runs_are_swept_and_nothing_else(tmp_path):
    for name in (LEFT, ".a\nb.1-00000000.tmp", "mine.tmp", ".other.tmp", ".00001.h5.77-0123abcd.tmp.bak"):
        (tmp_path / name).write_text("half")
    durable_files.sweep(tmp_path)
    assert names(tmp_path) == [".00001.h5.77-0123abcd.tmp.bak", ".other.tmp", "mine.tmp"]
    durable_files.sweep(tmp_path / "none")


def test_what_is_being_written_is_not_swept(tmp_path):
    with durable_files.staged(tmp_path / "a") as descriptor:
        durable_files.put(descriptor, b"whole")
        durable_files.sweep(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"whole"


@pytest.mark.parametrize("moment", ["swept before the lock", "being swept at the lock"])
def test_a_file_that_is_swept_before_its_writer_has_locked_it_is_written_under_another_name(
    tmp_path, monkeypatch, moment
):
    """Between a writer's open and its lock a sweep takes the new file for a leftover."""
    flock, writers = fcntl.flock, []

    def raced(descriptor: int, how: int) -> None:
        if writers:
            return flock(descriptor, how)
        writers.append(descriptor)
        if moment == "swept before the lock":
            durable_files.sweep(tmp_path)
            return flock(descriptor, how)
        (temporary,) = tmp_path.glob(".a.*.tmp")
        sweeper = os.open(temporary, os.O_RDWR)
        try:
            flock(sweeper, fcntl.LOCK_EX)
            flock(descriptor, how)
        finally:
            temporary.unlink()
            os.close(sweeper)
        return None

    monkeypatch.setattr(temporary_file.fcntl, "flock", raced)
    durable_files.write(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert names(tmp_path) == ["a"]
    assert writers


def test_what_is_no_file_is_no_leftover_whatever_its_name(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / LEFT).symlink_to(tmp_path / "mine")
    (tmp_path / ".x.7-0123abcd.tmp").mkdir()
    os.mkfifo(tmp_path / ".y.7-0123abcd.tmp")
    durable_files.sweep(tmp_path)
    assert names(tmp_path) == [LEFT, ".x.7-0123abcd.tmp", ".y.7-0123abcd.tmp", "mine"]
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("number", [None, errno.EOPNOTSUPP, errno.EINVAL])
def test_space_is_really_reserved(tmp_path, monkeypatch, number):
    """Where the system cannot reserve it, by zeros that are written."""

    def fails(*_: object) -> None:
        raise OSError(number, "no")

    if number is not None:
        monkeypatch.setattr(os, "posix_fallocate", fails)
    with durable_files.staged(tmp_path / "a") as descriptor:
        durable_files.mapped(descriptor, 3_000_000)[-1] = 7
    assert (tmp_path / "a").stat().st_size == 3_000_000
    assert (tmp_path / "a").stat().st_blocks * 512 >= 3_000_000
    assert (tmp_path / "a").read_bytes() == bytes(2_999_999) + b"\7"


def test_space_is_reserved_where_there_is_no_call_for_it(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    with durable_files.staged(tmp_path / "a") as descriptor:
        durable_files.mapped(descriptor, 3_000_000)
    assert (tmp_path / "a").stat().st_blocks * 512 >= 3_000_000


def test_a_disk_that_takes_little_at_a_time_takes_all(tmp_path, monkeypatch):
    write, content = os.write, os.urandom(1000)
    monkeypatch.setattr(os, "write", lambda descriptor, part: write(descriptor, part[:7]))
    durable_files.write(tmp_path / "a", content)
    assert (tmp_path / "a").read_bytes() == content


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_without_hard_links_the_first_to_write_a_name_wins_too(tmp_path, monkeypatch, number):
    def fails(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", fails)
    durable_files.write(tmp_path / "a", b"first", replace=False)
    with pytest.raises(FileExistsError):
        durable_files.write(tmp_path / "a", b"second", replace=False)
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "\udcff" * 255], ids=["ASCII", "UTF-8", "bytes"])
def test_a_name_as_long_as_can_be_is_written_and_its_leftover_swept(tmp_path, name):
    if sys.platform == "darwin" and "\udcff" in name:
        pytest.skip("its file system has no names that are not UTF-8")
    output_file.require_writable(tmp_path / name)
    with durable_files.staged(tmp_path / name) as descriptor:
        (temporary,) = names(tmp_path)
        durable_files.put(descriptor, b"whole")
    assert (tmp_path / name).read_bytes() == b"whole"
    assert temporary_file.is_temporary(temporary)
    (tmp_path / temporary).touch()
    durable_files.sweep(tmp_path)
    assert names(tmp_path) == [name]
    with pytest.raises(UsageError, match="names of files in this folder have at most 255 bytes"):
        output_file.require_writable(tmp_path / f"{name}nn")


def test_folders_on_the_way_are_made_durably(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda one: synced.append(os.fstat(one).st_ino) or fsync(one))
    durable_files.make_folder(tmp_path / "a" / "b" / "c")
    assert synced == [path.stat().st_ino for path in (tmp_path, tmp_path / "a", tmp_path / "a" / "b")]
    durable_files.make_folder(tmp_path / "a" / "b" / "c")
    assert len(synced) == 3


@pytest.mark.parametrize("call", ["posix_fallocate", "flush"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_mapped_file_that_the_disk_does_not_take_leaves_the_old_one(tmp_path, monkeypatch, call, number):
    path, tensors = tmp_path / "s.safetensors", {"x": np.arange(9.0)}
    sealed_writer.write(path, "k", tensors, {})
    before = path.read_bytes()

    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(durable_files if call == "flush" else os, call, fails)
    with pytest.raises(ResourceError, match=rf"s\.safetensors: cannot be written: {os.strerror(number)}"):
        sealed_writer.write(path, "k", {"x": np.zeros(9)}, {})
    assert path.read_bytes() == before
    assert names(tmp_path) == [path.name]


def test_move_keeps_what_was_moved_before_and_one_copy_of_what_is_alike(tmp_path):
    for content in (b"one", b"two", b"one"):
        (tmp_path / "a").write_bytes(content)
        durable_files.move(tmp_path / "a", tmp_path / "aside" / "deep")
    assert not (tmp_path / "a").exists()
    found = sorted((path.name, path.read_bytes()) for path in (tmp_path / "aside" / "deep").iterdir())
    assert found == [("a", b"one"), ("a~1", b"two")]


def test_move_takes_links_and_folders_as_they_are(tmp_path):
    (tmp_path / "target").write_bytes(b"kept")
    for _ in range(2):
        (tmp_path / "a").symlink_to(tmp_path / "target")
        durable_files.move(tmp_path / "a", tmp_path / "aside")
    (tmp_path / "a").mkdir()
    assert durable_files.move(tmp_path / "a", tmp_path / "aside").name == "a~2"
    assert (tmp_path / "aside" / "a~1").readlink() == tmp_path / "target"
    assert (tmp_path / "target").read_bytes() == b"kept"


def test_remove_is_content_with_nothing(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    for _ in range(2):
        durable_files.remove(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    (tmp_path / "b").mkdir()
    with pytest.raises(ResourceError, match="b: cannot be written"):
        durable_files.remove(tmp_path / "b")


def written(folder: Path) -> None:
    durable_files.write(folder / "a", b"content")


def locked(folder: Path) -> None:
    with folder_lock.lock(folder):
        pass


OPERATIONS = {
    "make_folder": lambda folder: durable_files.make_folder(folder / "deep" / "down"),
    "write": written,
    "move": lambda folder: durable_files.move(folder / "old", folder / "aside"),
    "remove": lambda folder: durable_files.remove(folder / "old"),
    "sweep": durable_files.sweep,
    "lock": locked,
    "require_free": folder_lock.require_free,
}


@pytest.mark.parametrize("fault", ["ENOSPC", "EIO", "EROFS", "EINVAL"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_fault_of_any_call_is_a_resource_error_or_no_matter(tmp_path, monkeypatch, name, fault):
    said: list[str] = []
    for at in range(40):
        folder = tmp_path / str(at)
        folder.mkdir()
        (folder / "old").write_bytes(b"old")
        (folder / "lock").touch()
        (folder / ".gone.1-00000000.tmp").touch()
        system = faults.System(at, fault, folders=True)
        with monkeypatch.context() as patched:
            for module in (durable_files, folder_lock, opener, temporary_file):
                patched.setattr(module, "os", system)
            for module in (folder_lock, temporary_file):
                patched.setattr(module, "fcntl", system)
            try:
                OPERATIONS[name](folder)
            except ResourceError as error:
                said.append(str(error).replace(str(folder), "FOLDER"))
        assert name in ("move", "remove") or (folder / "old").read_bytes() == b"old"
        if at >= len(system.calls):
            break
    else:
        raise AssertionError("the operation does not end")
    assert all(line.startswith("FOLDER") and "\n" not in line for line in said)
    assert said or name == "require_free"


def test_a_folder_that_cannot_be_written_is_told_before_the_work(tmp_path, monkeypatch):
    for path, reason in ((tmp_path, "is a folder"), (tmp_path / "no" / "file", "there is no folder")):
        with pytest.raises(UsageError, match=reason):
            output_file.require_writable(path)
    output_file.require_writable(tmp_path / "file")
    output_file.require_writable(tmp_path / "no" / "file", makes_folder=True)
    for name in ("a\0b", "\ud800"):
        with pytest.raises(UsageError, match="no file can have this name"):
            output_file.require_writable(tmp_path / name)
    monkeypatch.setattr(durable_files.os, "access", lambda path, mode, **_: False)
    for refuse in (durable_files.make_folder, lambda path: output_file.require_writable(path / "file")):
        with pytest.raises(ResourceError, match="Permission denied; choose a folder that can be written"):
            refuse(tmp_path)
