"""The Python of the README and the guide, run as it stands there on small data."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from gramcli.demo import WEIGHTS, sounds
from tests.guide.pages import PAGES, fenced

BLOCKS = {f"{page.stem}-{n}": body for page in PAGES for n, body in enumerate(fenced(page, "python"))}


@pytest.fixture
def small(tmp_path, monkeypatch) -> Path:
    """The demo's sounds, a third of them, as the working folder."""
    manifest = sounds.write(tmp_path / "sounds")
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join([lines[0], *lines[1::3]]))
    shutil.copy(WEIGHTS, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(name: str) -> None:
    exec(compile(BLOCKS[name], name, "exec"), {})


def test_there_are_no_others():
    assert set(BLOCKS) == {"python-0", "python-1", "python-2"}


@pytest.mark.parametrize("name", BLOCKS)
def test_it_imports_nothing_deeper_than_the_package(name):
    lines = [line for line in BLOCKS[name].splitlines() if "import" in line and "gramcli" in line]
    assert lines
    assert all(line == "import gramcli" or line.startswith("from gramcli import ") for line in lines)


def test_the_whole_way(small, capsys):
    run("python-0")
    *rows, verdict = capsys.readouterr().out.splitlines()
    assert len(rows) == len(list((small / "sounds" / "alarm").iterdir()))
    assert "sounds/alarm" in rows[0]
    assert "fused" in verdict


def test_training(small):
    run("python-1")
    assert (small / "out.safetensors").is_file()


def test_descriptors_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("python-2")
    gramcli = sys.modules["gramcli"]
    assert gramcli.calibrate("elsewhere").counts.tolist() == [12, 12]
