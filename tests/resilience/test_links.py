"""A link in a cache leads nowhere: no command reads, changes or deletes what is outside, wherever the link stands."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from gramcli.cli.app import run
from tests.support.commands import TOML
from tests.support.sets import ROOT, write_set

COMMANDS = {
    "extract": ["extract"],
    "calibrate": ["calibrate"],
    "select-layers": ["select-layers"],
    "evaluate": ["evaluate", "--condition", "noise:20"],
    "classify": ["classify", "sounds/click-0-0.wav"],
    "info": ["cache", "info"],
    "verify": ["cache", "verify"],
    "clean": ["cache", "clean", "--yes"],
    "repair": ["cache", "verify", "--repair"],
}
ENTRIES = {
    "lock": {"extract", "calibrate", "select-layers", "verify", "clean", "repair"},
    "clips.csv": {"extract", "calibrate", "select-layers", "evaluate", "info", "verify", "clean"},
    "failures.csv": {"extract", "verify"},
    "finished.safetensors": {"extract", "verify"},
    "statistics.safetensors": {"extract", "calibrate", "select-layers", "evaluate", "classify", "info", "verify"},
    "decision.safetensors": {"extract", "select-layers", "evaluate", "classify", "info", "verify"},
    "runs": {"extract", "verify"},
    "folds": {"extract", "verify"},
    "quarantine": {"extract", "verify", "clean", "repair"},
    "views": set(COMMANDS) - {"repair"},
    "views/clean": set(COMMANDS) - {"repair"},
    "views/clean/view.json": set(COMMANDS) - {"repair"},
    "views/clean/shards": {"extract", "calibrate", "select-layers", "evaluate", "info", "verify", "clean"},
    "views/clean/shards/00000.h5": {"calibrate", "verify"},
    "views/noise-20": {"evaluate", "info", "verify", "clean"},
    "views/noise-20/shards": {"evaluate", "verify", "clean"},
}
"""Entries of a cache, each with the commands that cannot do without it, so that they must end with 6."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose cache has all kinds of entries; not to be changed."""
    folder = tmp_path_factory.mktemp("linked")
    write_set(folder / "sounds", clips=2)
    (folder / "gramcli.toml").write_text(TOML)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.syspath_prepend(ROOT)
        for command in (["extract", "--condition", "noise:20"], ["calibrate"], ["select-layers"]):
            assert run(command) == 0
    (folder / ".gramcli" / "quarantine" / "views").mkdir(parents=True)
    (folder / ".gramcli" / "quarantine" / "views" / "x.h5").write_text("damaged")
    (folder / ".gramcli" / "folds").mkdir()
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy as the working folder."""
    shutil.copytree(finished, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def state(top: Path) -> dict[str, tuple[object, ...]]:
    """Returns what can be seen of a file or folder: names, kinds, sizes, and when they were read and changed."""
    found: dict[str, tuple[object, ...]] = {}
    for path in (top, *sorted(top.rglob("*"))):
        about = path.lstat()  # before it is read
        found[str(path)] = (about.st_atime_ns, about.st_mtime_ns, about.st_mode, about.st_nlink, about.st_size)
    return found


def age(top: Path) -> None:
    """Makes a read show: a file system that keeps access times changes one that is days old."""
    long_ago = time.time() - 3 * 24 * 3600
    for path in (*sorted(top.rglob("*")), top):
        os.utime(path, (long_ago, long_ago))


@pytest.mark.parametrize("entry", ENTRIES)
def test_no_command_follows_a_link(entry, project, tmp_path, gramcli):
    cache, outside = project / ".gramcli", tmp_path / "outside"
    (cache / entry).rename(outside)
    for name, command in COMMANDS.items():
        (cache / entry).unlink(missing_ok=True)
        (cache / entry).symlink_to(outside)
        age(outside)
        before = state(outside)
        done = gramcli(*command)
        assert state(outside) == before, name
        assert done.code == 6 or (done.code in (0, 4) and name not in ENTRIES[entry]), (name, done)
        if done.code == 6 and name not in ("verify", "repair"):
            assert "stands in its place" in done.err


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if "." in entry or entry == "lock"])
def test_no_command_waits_for_a_pipe(entry, project, gramcli):
    path = project / ".gramcli" / entry
    path.unlink()
    os.mkfifo(path)
    for name in ("extract", "calibrate", "info", "verify", "clean"):
        done = gramcli(*COMMANDS[name])
        assert done.code == 6 or (done.code in (0, 4) and name not in ENTRIES[entry]), (name, done)
    assert path.is_fifo()


def test_files_of_a_file_manager_do_not_matter(project, gramcli):
    for folder in ("", "views", "views/clean", "views/clean/shards", "runs", "folds", "quarantine"):
        (project / ".gramcli" / folder / ".DS_Store").write_bytes(b"icons")
    for command in COMMANDS.values():
        assert gramcli(*command).code == 0
