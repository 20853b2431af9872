"""Fixtures that run the command line in this process, in a project folder of the test's own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gramcli.cli.app import run
from tests.support.sets import ROOT, write_set

TOY = "tests.support.toys:ResNet"
"""The network of the project, for child processes, where the user must name it in the environment."""

TOML = f"""
[data]
manifest = "sounds/manifest.csv"
[segment]
seconds = 0.25
[frontend]
sample_rate = 8000
n_fft = 256
window_ms = 32
hop_ms = 16
n_mels = 16
[network]
name = "{TOY}"
classes = ["click", "hiss", "hum"]
[run]
decoders = 1
[cache]
clips_per_shard = 8
"""


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one error line."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        return line


@pytest.fixture
def gramcli(capfd, monkeypatch):
    """Runs a command in this process."""
    monkeypatch.syspath_prepend(ROOT)

    def call(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return call


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """A project folder: sounds and settings."""
    folder = tmp_path_factory.mktemp("project")
    write_set(folder / "sounds", clips=2)
    (folder / "gramcli.toml").write_text(TOML)
    return folder


@pytest.fixture
def project(prepared, tmp_path, monkeypatch) -> Path:
    """A copy of it, as the working folder."""
    shutil.copytree(prepared, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def calibrated(project, gramcli) -> Path:
    """The same after the first three commands."""
    for command in ("extract", "calibrate", "select-layers"):
        assert gramcli(command).code == 0
    return project


@pytest.fixture(scope="module")
def calibrated_once(prepared, tmp_path_factory) -> Iterator[Path]:
    """The same once for a module whose tests change nothing in it that matters to others."""
    folder = tmp_path_factory.mktemp("once") / "project"
    shutil.copytree(prepared, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(ROOT)
        for command in ("extract", "calibrate", "select-layers"):
            assert run([command, "--quiet"]) == 0
        yield folder
