from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gramcli.system import import_path
from tests.support.sets import ROOT


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        (None, ["/lib"]),
        ("", ["/lib"]),
        (".:/lib", ["/lib"]),
        ("/lib:", ["/lib"]),
        ("sub", ["/lib"]),
        ("HERE", ["HERE", "HERE/sub", "/lib"]),
        ("HERE:.", ["HERE", "HERE/sub", "/lib"]),
    ],
)
def test_the_working_folder_counts_only_if_it_is_named_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: str | None, kept: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), "", f"{tmp_path}/sub", "/lib"])
    if stated is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", stated.replace("HERE", str(tmp_path)))
    import_path.leave_out_working_folder()
    expected = [one.replace("HERE", str(tmp_path)) for one in kept]
    if stated != "sub" and "HERE" not in (stated or ""):
        expected = [f"{tmp_path}/sub", *expected]
    assert sys.path == expected


def test_children_get_no_relative_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", "/one", "two"]))
    assert import_path.environment("/package")["PYTHONPATH"] == os.pathsep.join(["/package", "/one"])


@pytest.mark.parametrize("relative", ["", "."])
def test_no_file_of_the_working_folder_replaces_a_library(tmp_path: Path, relative: str) -> None:
    for name in ("typer", "rich", "numpy", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken over')\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [relative])])}
    command = [sys.executable, "-m", "gramcli", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
