"""The demo, as a newcomer runs it."""

from __future__ import annotations

import os
import subprocess
import sys

from gramcli.demo import WEIGHTS
from gramcli.errors import ResourceError
from gramcli.system import durable_files
from tests.support.sets import ROOT


def run(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "gramcli", "demo", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_it_prints_every_command_before_its_output(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    commands = [line for line in done.stdout.splitlines() if line.startswith("$ ")]
    assert [line.split()[2] for line in commands] == ["extract", "calibrate", "select-layers", "evaluate", "classify"]
    at = {line: done.stdout.index(line) for line in commands}
    assert at[commands[3]] < done.stdout.index("map,0.") < done.stdout.index("gram,0.") < at[commands[4]]
    (clip,) = [line for line in done.stdout.splitlines() if line.startswith("sounds/")]
    assert ",ok," in clip
    assert "480 clips" in done.stderr
    assert "gramcli guide start" in done.stdout.splitlines()[-1]


def test_its_files_are_written_by_the_module_that_writes(tmp_path, gramcli, monkeypatch):
    def full(path, content, **_):
        raise ResourceError(f"{path.name}: cannot be written: No space left on device")

    monkeypatch.setattr("gramcli.demo.sounds.write", lambda folder: (folder / "manifest.csv").touch())
    monkeypatch.setattr(durable_files, "write", full)
    done = gramcli("demo", tmp_path / "demo")
    assert done.code == 7
    assert done.error == f"error: {WEIGHTS.name}: cannot be written: No space left on device"


def test_it_does_not_touch_a_folder_of_something_else(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    done = run(tmp_path, "mine")
    assert (done.returncode, done.stderr) == (
        2,
        "error: mine: exists and holds other files; name another folder\n",
    )


def test_a_link_is_no_folder_to_work_in(tmp_path, gramcli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "gramcli-demo").symlink_to("elsewhere")
    done = gramcli("demo")
    assert (done.code, done.err) == (2, "error: gramcli-demo: is a link; name a folder\n")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_file_is_no_folder_to_work_in(tmp_path, gramcli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "thesis.txt").write_text("")
    done = gramcli("demo", "thesis.txt")
    assert (done.code, done.err) == (2, "error: thesis.txt: is a file; name a folder\n")
