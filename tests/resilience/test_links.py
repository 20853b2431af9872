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
    "evaluate": ["evaluate"],
    "classify": ["classify", "sounds/click-0-0.wav"],
    "info": ["cache", "info"],
    "verify": ["cache", "verify"],
    "clean": ["cache", "clean", "--yes"],
    "repair": ["cache", "verify", "--repair"],
}
ENTRIES = {
    "lock": {"extract", "calibrate", "select-layers", "clean"},
    "clips.csv": {"extract", "calibrate", "select-layers", "evaluate", "info", "verify", "clean"},
    "failures.csv": {"extract"},
    "finished.safetensors": {"extract"},
    "statistics.safetensors": {"extract", "calibrate", "select-layers", "evaluate", "classify", "info", "verify"},
    "decision.safetensors": {"extract", "select-layers", "evaluate", "classify", "info", "verify"},
    "runs": {"extract"},
    "folds": {"extract"},
    "quarantine": {"extract", "clean"},
    "views": set(COMMANDS) - {"repair"},
    "views/clean": set(COMMANDS) - {"repair"},
    "views/clean/view.json": set(COMMANDS) - {"repair"},
    "views/clean/shards": {"extract", "calibrate", "select-layers", "evaluate", "info", "verify", "clean"},
    "views/clean/shards/00000.h5": {"calibrate", "verify"},
    "views/noise-20": {"info", "verify", "clean"},
    "views/noise-20/shards": {"verify", "clean"},
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
    """Returns what can be seen of a file or folder: names, content, and when they were read and changed."""
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
