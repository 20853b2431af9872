"""Writing: whole and durable, or not at all; one writer."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gramcli import files
from gramcli.errors import LockedError, ResourceError
from tests.sets import ROOT


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path):
    files.write(tmp_path / "a", b"old")
    files.write(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_the_first_to_write_a_name_wins(tmp_path):
    files.write(tmp_path / "a", b"first", replace=False)
    with pytest.raises(FileExistsError):
        files.write(tmp_path / "a", b"second", replace=False)
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("call", ["fsync", "replace", "link"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_a_fault_at_any_step_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, call, number):
    files.write(tmp_path / "a", b"old")

    def fails(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fails)
    target = tmp_path / ("b" if call == "link" else "a")
    with pytest.raises(ResourceError, match=rf"{target.name}: cannot be written: {os.strerror(number)}; ") as caught:
        files.write(target, b"new", replace=call != "link")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_leftovers_of_killed_runs_are_swept(tmp_path):
    (tmp_path / ".00001.h5.77-abc.tmp").write_text("half")
    (tmp_path / "mine.tmp").write_text("whole")
    files.sweep(tmp_path)
    assert names(tmp_path) == ["mine.tmp"]


def test_space_is_really_reserved(tmp_path):
    files.reserve(tmp_path / "a", 100_000)
    assert (tmp_path / "a").stat().st_size == 100_000
    assert (tmp_path / "a").stat().st_blocks * 512 >= 100_000


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from gramcli.files import lock\n"
        f"with lock(Path({str(tmp_path)!r})):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(LockedError, match=rf"in use by process {holder.pid} on \S+ since \d{{4}}-"),
        files.lock(tmp_path),
    ):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with files.lock(tmp_path):
        pass


def test_a_lock_with_damaged_words_still_holds(tmp_path):
    with files.lock(tmp_path):
        (tmp_path / "lock").write_text("?")
        with pytest.raises(LockedError, match="in use by another process"), files.lock(tmp_path):
            pass
