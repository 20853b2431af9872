"""What the README tells a user to type."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from gramcli.cache import statistics
from gramcli.calibration.calibrate import calibrate
from gramcli.demo import WEIGHTS, sounds
from gramcli.settings import sources
from tests.support.sets import ROOT

README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_settings_are_valid():
    (text,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    chosen = sources.resolve(sources.source(tomllib.loads(text), "README", Path.cwd()))
    assert chosen.network.name == "resnet18"
    assert len(chosen.network.classes) == 10


def test_python_the_whole_way(tmp_path, monkeypatch, capsys):
    """The demo's sounds, fewer of them."""
    manifest = sounds.write(tmp_path / "sounds")
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join([lines[0], *lines[1::3]]))
    shutil.copy(WEIGHTS, tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(compile(PYTHON[0], "README", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(list((tmp_path / "sounds" / "alarm").iterdir()))
    assert "sounds/alarm" in printed[0]


def test_python_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(PYTHON[1], "README", "exec"), {})
    assert calibrate(Path("elsewhere")).counts.tolist() == [12, 12]
    assert statistics.load(Path("elsewhere")).layers == {"conv5": 16}


@pytest.mark.parametrize(
    "command", ["extract", "calibrate", "select-layers", "classify", "check", "evaluate", "layers", "demo"]
)
def test_every_command_is_in_it(command):
    assert f"gramcli {command}" in README
