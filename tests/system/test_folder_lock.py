"""The writer lock of a folder: one holder, who is named, and none after a kill."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from gramcli.errors import LockedError, ResourceError
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
