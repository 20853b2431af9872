"""The writer lock of a folder: one holder, who is named, and none after a kill."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys

import pytest

from gramcli.errors import DamagedError, LockedError, ResourceError
from gramcli.system import folder_lock
from tests.support.sets import ROOT


def test_no_room_for_the_lock_is_said(tmp_path, monkeypatch):
    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", fails)
    with pytest.raises(ResourceError, match="lock: cannot be written: No space left on device; free"):
        folder_lock.lock(tmp_path).__enter__()
    monkeypatch.undo()
    with folder_lock.lock(tmp_path):
        pass


def test_a_folder_without_a_lock_is_free(tmp_path):
    folder_lock.require_free(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_does_not_pass_for_a_free_one(tmp_path, monkeypatch):
    def fails(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fails)
    with pytest.raises(ResourceError, match=r"lock: cannot be locked: .*; use a local --cache"):
        folder_lock.lock(tmp_path).__enter__()


def test_the_lock_sweeps_its_folder(tmp_path):
    (tmp_path / ".00001.h5.77-0123abcd.tmp").write_text("half")
    with folder_lock.lock(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from gramcli.system.folder_lock import lock\n"
        f"with lock(Path({str(tmp_path)!r})):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(LockedError, match=rf"in use by process {holder.pid} on \S+ since \d{{4}}-"),
        folder_lock.lock(tmp_path),
    ):
        pass
    with pytest.raises(LockedError, match=rf"in use by process {holder.pid} on "):
        folder_lock.require_free(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    folder_lock.require_free(tmp_path)
    with folder_lock.lock(tmp_path):
        pass


def test_a_lock_with_damaged_words_still_holds(tmp_path):
    with folder_lock.lock(tmp_path):
        (tmp_path / "lock").write_text("?")
        with pytest.raises(LockedError, match="in use by another process"), folder_lock.lock(tmp_path):
            pass


@pytest.mark.parametrize("how", ["link", "hard link", "pipe", "folder", "other text", "other JSON", "long"])
def test_only_a_lock_is_overwritten(tmp_path, how):
    precious, folder = tmp_path / "precious", tmp_path / "cache"
    folder.mkdir()
    precious.write_text("precious")
    path = folder / "lock"
    if how == "link":
        path.symlink_to(precious)
    elif how == "hard link":
        precious.write_text('{"host": "here", "process": 1, "since": "yesterday"}')
        path.hardlink_to(precious)
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    else:
        path.write_text(
            {"other text": "my door", "other JSON": '{"host": "x"}', "long": '{"host": "' + "x" * 2000}[how]
        )
    before = precious.read_text(), path.lstat()
    for attempt in (folder_lock.require_free, lambda folder: folder_lock.lock(folder).__enter__()):
        with pytest.raises(DamagedError, match=r"lock: is damaged \(.*\); move that away"):
            attempt(folder)
    assert (precious.read_text(), path.lstat()) == before


@pytest.mark.parametrize(
    "torn",
    [b"", b'{"ho', b'{"host": "a", "proc', bytes(70), b'{"host": "a"' + bytes(30)],
    ids=lambda torn: repr(torn)[:9],
)
def test_a_lock_that_a_power_cut_has_torn_can_be_taken(tmp_path, torn):
    (tmp_path / "lock").write_bytes(torn)
    folder_lock.require_free(tmp_path)
    with folder_lock.lock(tmp_path):
        assert set(json.loads((tmp_path / "lock").read_text())) == {"host", "process", "since"}
